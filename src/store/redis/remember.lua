-- Records the answer to a request with an Idempotency-Key, unless one is already recorded or the pool's answers take too many bytes.
-- KEYS  1 answer  2 bytes of the pool's answers, by the end of the group in which they are counted (ms)
-- ARGV  1 the answer  2 how long to keep it (ms)  3 how far apart groups end (ms)  4 the bytes it counts for  5 the most of the pool
-- Reply 1 if it is now recorded, 0 if an earlier answer is, which stays; or, if there is no room, the time until the first group
--       ends (ms, negative)

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local keep, apart, bytes, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local groups = redis.call('HGETALL', KEYS[2])
local sum, first = bytes, nil
for at = 1, #groups, 2 do
  local ends = tonumber(groups[at])
  if ends <= now then
    redis.call('HDEL', KEYS[2], groups[at])
  else
    sum = sum + tonumber(groups[at + 1])
    first = math.min(first or ends, ends)
  end
end
if sum > most then
  return now - (first or now + keep)
end
local ends = math.ceil((now + keep) / apart) * apart
redis.call('HINCRBY', KEYS[2], string.format('%.0f', ends), bytes)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
