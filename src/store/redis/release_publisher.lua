-- Releases the lease to publish a pool, so that another instance need not wait for its end.
-- KEYS  1 pool
-- ARGV  1 holder
-- Reply 1 if the holder had it, else 0

if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'held-until', string.format('%.0f', now))
return 1
