-- Records a publication, and clears the dirty mark if nothing has changed since its snapshot. The list stays due if it was
-- made due at once after the publication began.
-- KEYS  1 pool  2 dirty  3 due  4 list
-- ARGV  1 list id  2 fence  3 version  4 iat  5 resign at  6 when the snapshot was requested (ms)
--       7 the due mark that the publication saw
-- Reply 'settled', 'fenced' or 'no such list'

local version = redis.call('HGET', KEYS[4], 'version')
if not version then
  return 'no such list'
end
if tonumber(redis.call('HGET', KEYS[1], 'fence')) > tonumber(ARGV[2]) then
  return 'fenced'
end
local resign_at = (redis.call('HGET', KEYS[4], 'due-mark') or '0') == ARGV[7] and ARGV[5] or 0
redis.call('HSET', KEYS[4], 'published', ARGV[3], 'iat', ARGV[4], 'resign-at', resign_at)
redis.call('ZADD', KEYS[3], resign_at, ARGV[1])
if tonumber(version) <= tonumber(ARGV[3]) then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  -- A change that the publication does not show was made after its snapshot.
  redis.call('ZADD', KEYS[2], 'GT', ARGV[6], ARGV[1])
end
return 'settled'
