-- Sets every entry of a list, at once or over several beats. Never looks at the entries: other clients wait meanwhile, and there may
-- be half a billion. `no-final` is the version of which it is known that no entry has the final status.
-- KEYS  1 pool  2 open  3 list  4 dirty  5 bytes  6 spreads
-- ARGV  1 list id  2 now (ms)  3 the version of which the caller found no entry with the final status ('': it did not look)
--       4 bytes of an array  5 one byte of the new array
--       6 whether the pool has a final status that is not the new one (0, 1): no entry may have it
--       7 whether this seals the list (0, 1)
--       8 the list's new spread ('': at once)  9 the beginning of a spread with the same value and beats
--       10 the beginning of a spread whose value is the final status
--       Bytes are relative to the pool's default status.
-- Reply 0 set, 1 no such list, 2 the list was retired, 3 it has a spread of the final status,
--       4 entries may have the final status: look at those of the present version

local version, retired, open, leased, spread, no_final =
  unpack(redis.call('HMGET', KEYS[3], 'version', 'retired', 'open', 'leased', 'spread', 'no-final'))
if not version then
  return 1
end
if retired == '1' then
  return 2
end

local function spread_begins(text) return spread and string.sub(spread, 1, #text) == text end

if ARGV[6] == '1' then
  if spread_begins(ARGV[10]) then
    return 3
  end
  if no_final ~= version and ARGV[3] ~= version then
    return 4
  end
end

if ARGV[8] == '' then
  -- Doubled again and again: `string.rep` adds byte after byte.
  local length, bytes = tonumber(ARGV[4]), ARGV[5]
  while #bytes < length do
    bytes = bytes .. bytes
  end
  redis.call('SET', KEYS[5], string.sub(bytes, 1, length))
  version = redis.call('HINCRBY', KEYS[3], 'version', 1)
  redis.call('ZADD', KEYS[4], 'NX', ARGV[2], ARGV[1])
  redis.call('HDEL', KEYS[3], 'spread')
  redis.call('SREM', KEYS[6], ARGV[1])
else
  -- Written also if it continues: replicas can only confirm after a write.
  redis.call('HSET', KEYS[3], 'spread', spread_begins(ARGV[9]) and spread or ARGV[8])
  redis.call('SADD', KEYS[6], ARGV[1])
end
if ARGV[6] == '1' then
  redis.call('HSET', KEYS[3], 'no-final', version)
end
if ARGV[7] == '1' then
  if open == '1' then
    local size = redis.call('HGET', KEYS[1], 'size')
    redis.call('HINCRBY', KEYS[1], 'free', tonumber(leased) - tonumber(size))
  end
  redis.call('HSET', KEYS[3], 'open', 0)
  redis.call('HDEL', KEYS[3], 'key')
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0
