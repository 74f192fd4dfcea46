-- Takes or extends the right to publish a pool. The fence grows exactly when the holder changes.
-- KEYS  1 pool
-- ARGV  1 holder  2 now (ms)  3 until (ms)  4 patience after another's end (ms)
-- Reply the fence, nil while it is another's, or -1 if there is no such pool

local holder, held_until = unpack(redis.call('HMGET', KEYS[1], 'holder', 'held-until'))
if not holder then
  return -1
end
if holder ~= ARGV[1] then
  if holder ~= '' and tonumber(held_until) + tonumber(ARGV[4]) > tonumber(ARGV[2]) then
    return nil
  end
  redis.call('HINCRBY', KEYS[1], 'fence', 1)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'held-until', ARGV[3])
return tonumber(redis.call('HGET', KEYS[1], 'fence'))
