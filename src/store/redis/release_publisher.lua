-- Lets go of the right to publish a pool, so that another need not wait for its end.
-- KEYS  1 pool
-- ARGV  1 holder  2 now (ms)
-- Reply 1 if it was the holder's, else 0

if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'held-until', ARGV[2])
return 1
