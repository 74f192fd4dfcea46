-- Sets every entry of a list, at once or over several beats.
-- KEYS  1 pool  2 open  3 list  4 dirty  5 bytes  6 spreads
-- ARGV  1 list id  2 now (ms)  3 bits per entry  4 bytes of an array  5 one byte of the new array
--       6 a status that no entry may leave ('': none, or it is the new one)  7 whether this seals the list (0, 1)
--       8 the list's new spread ('': at once)  9 the beginning of a spread with the same value and beats
--       10 the beginning of a spread whose value is the status of 6
--       Statuses and bytes are relative to the pool's default status.
-- Reply the outcome, and the entry that caused it: {0} set, {1} no such list, {2} the list was retired,
--       {3, index} the final status would be left

local version, retired, open, leased, spread =
  unpack(redis.call('HMGET', KEYS[3], 'version', 'retired', 'open', 'leased', 'spread'))
if not version then
  return {1}
end
if retired == '1' then
  return {2}
end

local function spread_begins(text) return spread and string.sub(spread, 1, #text) == text end

if ARGV[6] ~= '' then
  if spread_begins(ARGV[10]) then
    return {3, 0}
  end
  local final, width = tonumber(ARGV[6]), 2 ^ tonumber(ARGV[3])
  local per_byte = 8 / tonumber(ARGV[3])
  -- The number of the first entry with the final status, for each byte.
  local first = {}
  for byte = 0, 255 do
    local rest = byte
    for entry = 0, per_byte - 1 do
      if rest % width == final then
        first[byte] = entry
        break
      end
      rest = math.floor(rest / width)
    end
  end
  local bytes = redis.call('GET', KEYS[5]) or ''
  for at = 1, #bytes do
    local entry = first[string.byte(bytes, at)]
    if entry then
      return {3, (at - 1) * per_byte + entry}
    end
  end
end

if ARGV[8] == '' then
  redis.call('SET', KEYS[5], string.rep(ARGV[5], tonumber(ARGV[4])))
  redis.call('HINCRBY', KEYS[3], 'version', 1)
  redis.call('ZADD', KEYS[4], 'NX', ARGV[2], ARGV[1])
  redis.call('HDEL', KEYS[3], 'spread')
  redis.call('SREM', KEYS[6], ARGV[1])
else
  -- Written also if it continues: replicas can only confirm after a write.
  redis.call('HSET', KEYS[3], 'spread', spread_begins(ARGV[9]) and spread or ARGV[8])
  redis.call('SADD', KEYS[6], ARGV[1])
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
return {0}
