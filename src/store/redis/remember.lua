-- Records the answer to a request with an Idempotency-Key, unless one is already recorded.
-- KEYS  1 answer
-- ARGV  1 the request's digest and the references  2 how long to keep them (ms)
-- Reply 1 if it is now recorded, 0 if an earlier answer is, which stays

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
