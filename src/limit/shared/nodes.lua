-- Notes that a gateway is there, or that it leaves, and counts those seen in the last minute. Version 1.
--
-- KEYS[1]: the gateways, by the time at which each was seen. ARGV[1]: the gateway; ARGV[2]: 1 if it is there, 0 if it leaves.
-- Reply, little-endian: B version, B whether the gateway was known, d how many there are, d now
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[2] == '1' then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 60000000))
redis.call('PEXPIRE', KEYS[1], 120000)
return struct.pack('<BBdd', 1, known and 1 or 0, redis.call('ZCARD', KEYS[1]), now)
