-- Gives positions back, if nothing was leased or returned since.
-- KEYS  1 pool  2 open  3 list
-- ARGV  1 list id  2 lease  3 first position that comes back
-- Reply 1 if they came back, else 0

local lease, leased, number, key = unpack(redis.call('HMGET', KEYS[3], 'lease', 'leased', 'number', 'key'))
-- A sealed list has no key: what comes back to it stays unused.
if lease ~= ARGV[2] or not key then
  return 0
end
local back = tonumber(leased) - tonumber(ARGV[3])
redis.call('HINCRBY', KEYS[1], 'leased', -back)
redis.call('HINCRBY', KEYS[1], 'free', back)
redis.call('HSET', KEYS[3], 'leased', ARGV[3], 'open', 1)
redis.call('HINCRBY', KEYS[3], 'lease', 1)
redis.call('ZADD', KEYS[2], number, ARGV[1])
return 1
