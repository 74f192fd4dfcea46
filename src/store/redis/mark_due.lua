-- Makes lists due at once.
-- KEYS  1 due  then each list
-- ARGV  the lists' ids
-- Reply 0, or the number of the first list that does not exist; then none was marked

for n = 1, #ARGV do
  if redis.call('EXISTS', KEYS[n + 1]) == 0 then
    return n
  end
end
for n, list in ipairs(ARGV) do
  redis.call('HSET', KEYS[n + 1], 'resign-at', 0)
  redis.call('HINCRBY', KEYS[n + 1], 'due-mark', 1)
  redis.call('ZADD', KEYS[1], 0, list)
end
return 0
