-- Imports a list from another store, unchanged.
-- KEYS  1 pool  2 lists  3 open  4 due  5 dirty  6 list  7 bytes  8 spreads
-- ARGV  1 list id  2 permutation key ('': sealed)  3 owner  4 leased  5 lease  6 open (0, 1)  7 version
--       8 published version ('': never)  9 iat  10 resign at  11 dirty since (ms, '': not)  12 bytes, relative to the default
--       13 leased at (ms, '': never)  14 retired (0, 1)  15 spread ('': none)
--       16 whether no entry has the final status (0, 1)
-- Reply 1, 0 if the list already exists, or -1 if there is no such pool

if redis.call('EXISTS', KEYS[6]) == 1 then
  return 0
end
local size = redis.call('HGET', KEYS[1], 'size')
if not size then
  return -1
end
local number = redis.call('HINCRBY', KEYS[1], 'made', 1)
redis.call('HINCRBY', KEYS[1], 'leased', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'retired', ARGV[14])
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('HSET', KEYS[6], 'number', number, 'owner', ARGV[3], 'leased', ARGV[4], 'lease', ARGV[5],
  'open', ARGV[6], 'version', ARGV[7], 'resign-at', ARGV[10], 'retired', ARGV[14])
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[6], 'leased-at', ARGV[13])
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[6], 'key', ARGV[2])
end
if ARGV[6] == '1' then
  redis.call('HINCRBY', KEYS[1], 'free', tonumber(size) - tonumber(ARGV[4]))
  redis.call('ZADD', KEYS[3], number, ARGV[1])
end
if ARGV[8] ~= '' then
  redis.call('HSET', KEYS[6], 'published', ARGV[8], 'iat', ARGV[9])
end
redis.call('ZADD', KEYS[4], ARGV[10], ARGV[1])
if ARGV[11] ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[11], ARGV[1])
end
if ARGV[12] ~= '' then
  redis.call('SET', KEYS[7], ARGV[12])
end
if ARGV[16] == '1' then
  redis.call('HSET', KEYS[6], 'no-final', ARGV[7])
end
if ARGV[15] ~= '' then
  redis.call('HSET', KEYS[6], 'spread', ARGV[15])
  redis.call('SADD', KEYS[8], ARGV[1])
end
return 1
