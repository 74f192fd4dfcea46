-- Opens a list. It is due at once, because it was never published.
-- KEYS  1 pool  2 lists  3 open  4 due  5 list
-- ARGV  1 list id  2 permutation key  3 owner  4 most lists of the pool, those that are retired not counted
--       5 whether the pool has a final status that is not the default (0, 1)
-- Reply 1, 0 if there is no such pool, or -1 if it has as many lists already

-- The call may be a retry whose first reply was lost.
if redis.call('EXISTS', KEYS[5]) == 1 then
  return 1
end
local size, made, retired = unpack(redis.call('HMGET', KEYS[1], 'size', 'made', 'retired'))
if not size then
  return 0
end
if tonumber(made or 0) - tonumber(retired or 0) >= tonumber(ARGV[4]) then
  return -1
end
local number = redis.call('HINCRBY', KEYS[1], 'made', 1)
redis.call('HINCRBY', KEYS[1], 'free', size)
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('ZADD', KEYS[3], number, ARGV[1])
redis.call('ZADD', KEYS[4], 0, ARGV[1])
redis.call('HSET', KEYS[5], 'number', number, 'key', ARGV[2], 'owner', ARGV[3],
  'leased', 0, 'lease', 0, 'open', 1, 'version', 0, 'resign-at', 0)
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[5], 'no-final', 0)
end
return 1
