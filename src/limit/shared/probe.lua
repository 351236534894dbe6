-- Writes, reads and deletes a value, as the other scripts do with values of subjects.
--
-- KEYS[1]: a key that nobody else uses. Reply: its value.
redis.call('TIME')
redis.call('SET', KEYS[1], 'probe', 'PX', 1000)
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return value
