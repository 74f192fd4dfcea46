-- Seals a list, refuses all later updates of it, and makes it due, so that the publisher removes its tokens.
-- KEYS  1 pool  2 open  3 list  4 due  5 spreads
-- ARGV  1 list id
-- Reply 1, or 0 if there is no such list

local open, leased, retired = unpack(redis.call('HMGET', KEYS[3], 'open', 'leased', 'retired'))
if not leased then
  return 0
end
if retired ~= '1' then
  redis.call('HINCRBY', KEYS[1], 'retired', 1)
end
if open == '1' then
  local size = redis.call('HGET', KEYS[1], 'size')
  redis.call('HINCRBY', KEYS[1], 'free', tonumber(leased) - tonumber(size))
end
redis.call('HSET', KEYS[3], 'open', 0, 'retired', 1, 'resign-at', 0)
redis.call('HINCRBY', KEYS[3], 'due-mark', 1)
redis.call('HDEL', KEYS[3], 'key', 'spread')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('ZADD', KEYS[4], 0, ARGV[1])
return 1
