-- Takes or extends the lease to publish a pool. The fence grows exactly when the holder changes. All times are by this
-- server's clock, so that an instance whose clock is wrong holds the lease no longer than any other.
-- KEYS  1 pool
-- ARGV  1 holder  2 term (ms)  3 patience after another's end (ms)
-- Reply the fence, nil while another holder has the lease, or -1 if there is no such pool

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local holder, held_until = unpack(redis.call('HMGET', KEYS[1], 'holder', 'held-until'))
if not holder then
  return -1
end
if holder ~= ARGV[1] then
  if holder ~= '' and tonumber(held_until) + tonumber(ARGV[3]) > now then
    return nil
  end
  redis.call('HINCRBY', KEYS[1], 'fence', 1)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'held-until', string.format('%.0f', now + tonumber(ARGV[2])))
return tonumber(redis.call('HGET', KEYS[1], 'fence'))
