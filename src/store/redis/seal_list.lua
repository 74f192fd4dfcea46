-- Ends allocation from a list and deletes its permutation key.
-- KEYS  1 pool  2 open  3 list
-- ARGV  1 list id
-- Reply 1, or 0 if there is no such list

local open, leased = unpack(redis.call('HMGET', KEYS[3], 'open', 'leased'))
if not leased then
  return 0
end
if open == '1' then
  local size = redis.call('HGET', KEYS[1], 'size')
  redis.call('HINCRBY', KEYS[1], 'free', tonumber(leased) - tonumber(size))
end
redis.call('HSET', KEYS[3], 'open', 0)
redis.call('HDEL', KEYS[3], 'key')
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
