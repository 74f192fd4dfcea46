-- Sets the next entries of a list to the value of its spread, if the spread is still the one that the caller knows.
-- KEYS  1 dirty  2 spreads  3 list  4 bytes
-- ARGV  1 list id  2 now (ms)  3 bits per entry  4 bytes of an array  5 the spread  6 the spread afterwards ('': it ends)
--       7 its value, relative to the pool's default status  8.. the entries' bit offsets
-- Reply 1, or 0 if it is another spread, was advanced by another caller, or has ended

if redis.call('HGET', KEYS[3], 'spread') ~= ARGV[5] then
  return 0
end
if redis.call('STRLEN', KEYS[4]) == 0 then
  -- In its full length at once: growing would leave up to as much again unused.
  redis.call('SETRANGE', KEYS[4], ARGV[4] - 1, '\0')
end
local width = 'u' .. ARGV[3]
-- Lua's stack holds 8000 values; each operation takes four.
for first = 8, #ARGV, 1000 do
  local operations = {}
  for n = first, math.min(first + 999, #ARGV) do
    operations[#operations + 1] = 'SET'
    operations[#operations + 1] = width
    operations[#operations + 1] = ARGV[n]
    operations[#operations + 1] = ARGV[7]
  end
  redis.call('BITFIELD', KEYS[4], unpack(operations))
end
redis.call('HINCRBY', KEYS[3], 'version', 1)
redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[3], 'spread')
  redis.call('SREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[3], 'spread', ARGV[6])
end
return 1
