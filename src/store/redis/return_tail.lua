-- Returns positions to the list, if nothing was leased or returned since.
-- KEYS  1 pool  2 open  3 list
-- ARGV  1 list id  2 lease  3 the first returned position
-- Reply 1 if they were returned, else 0

local lease, leased, number, key = unpack(redis.call('HMGET', KEYS[3], 'lease', 'leased', 'number', 'key'))
-- A sealed list has no key: positions returned to it stay unused.
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
