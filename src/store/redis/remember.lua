-- Remembers the answer to a request with an Idempotency-Key, unless one is remembered already.
-- KEYS  1 answer
-- ARGV  1 what was asked for and the references  2 for how long (ms)
-- Reply 1 if it is remembered now, 0 if there is one already, which stands

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
