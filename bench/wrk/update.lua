-- PATCH one random entry of one random list to 1. Arguments: the entries of a list, then the lists' URIs.
-- The requests are made before the run, so that their making costs nothing in it; each thread draws its own.

dofile("report.lua")

local REQUESTS = 20000
local requests, at, threads = {}, 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
end

function init(args)
  math.randomseed(seed)
  wrk.headers["Content-Type"] = "application/json"
  for n = 1, REQUESTS do
    local uri, index = args[math.random(2, #args)], math.random(0, tonumber(args[1]) - 1)
    local body = string.format('{"uri":"%s","index":%d,"value":1}', uri, index)
    requests[n] = wrk.format("PATCH", nil, nil, body)
  end
end

function request()
  at = at % REQUESTS + 1
  return requests[at]
end
