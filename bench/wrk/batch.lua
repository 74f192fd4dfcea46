-- PATCH a hundred entries at once. Arguments: the entries of a list, how many at once, then the lists' URIs.
-- The requests are made before the run, so that their making costs nothing in it; each thread draws its own.

dofile("report.lua")

local REQUESTS = 500
-- Coprime to the size of a list, so that no entry comes twice in a batch.
local STRIDE = 61803
local requests, at, threads = {}, 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
end

function init(args)
  math.randomseed(seed)
  wrk.headers["Content-Type"] = "application/json"
  local size, amount, lists = tonumber(args[1]), tonumber(args[2]), #args - 2
  for n = 1, REQUESTS do
    local begin, targets = math.random(0, size - 1), {}
    for entry = 1, amount do
      local index = (begin + entry * STRIDE) % size
      targets[entry] = string.format('{"uri":"%s","index":%d}', args[3 + entry % lists], index)
    end
    local body = string.format('{"statusListReferences":[%s],"value":1}', table.concat(targets, ","))
    requests[n] = wrk.format("PATCH", nil, nil, body)
  end
end

function request()
  at = at % REQUESTS + 1
  return requests[at]
end
