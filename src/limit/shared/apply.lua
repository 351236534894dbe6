-- Applies what a gateway knows of requests that it has admitted: corrections, leases, and what has to be restored. Version 2.
--
-- KEYS[1]: the number of the last batch of this gateway, if the batch has a number. KEYS[2…]: the values of the subjects.
-- ARGV[1], little-endian: I6 node, I3 session, d number of the batch (0: applying it twice does no harm), I2 items; for each item
--   I2 position of the key, B kind, I4 tag, three d:
--   1 clock: time, which is added          2 period: units, which are added; end of the period
--   3 in flight: requests that have ended, less those that have begun
--   4 in flight: the fewest and the most that there are, and the last number of an admission that was known then
--   6 period: sum that this gateway has seen, end of the period, when that value was born
--   7 admission: its number of this key. If it was executed, it is not any more; 16 more than 1, 2 or 3: the change of the same key is made in
--     that case only
-- Reply: B version, B whether the batch had been applied before, B values that could not be read, d now; for each item two d: clock: time until
-- which everything is paid for; period: sum, born; in flight: requests of this gateway
local node, session, batch, items, from = take('<I6I3dI2', ARGV[1])
local a = { take('<' .. rep('I2BI4ddd', items), ARGV[1], from) }
local repeated = false
if batch > 0 then
  local last = redis.pcall('GET', KEYS[1])
  if type(last) == 'table' and not string.find(last.err, 'WRONGTYPE', 1, true) then redis.call('GET', KEYS[1]) end
  repeated = type(last) == 'string' and (tonumber(last) or 0) >= batch
end

local subjects, states = {}, {}
for position = 2, #KEYS do subjects[position - 1] = read(KEYS[position], node) end
local is_undone, is_short = false, false
for i = 1, items do
  local o = 6 * i - 5
  local s, kind, tag, x, y, z = subjects[a[o]], a[o + 1], a[o + 2], a[o + 3], a[o + 4], a[o + 5]
  local makes = not repeated
  if kind >= 16 then
    kind, makes = kind - 16, makes and is_undone
    if kind == 2 and is_short then x = 0 end
  end
  states[2 * i - 1], states[2 * i] = 0, 0
  if kind == 1 then
    local c, at = s.c, 1
    while at <= s.cn and c[at] ~= tag do at = at + 2 end
    local arrival = at <= s.cn and c[at + 1] or 0
    if makes and (x > 0 or arrival > now) then
      if x > 0 and arrival < now then arrival = now end
      arrival = arrival + x
      if at > s.cn then s.cn, s.grown = at + 1, true end
      c[at], c[at + 1], s.changed = tag, arrival, true
      if arrival / 100000 + 1 > s.ends then s.ends = arrival / 100000 + 1 end
    end
    states[2 * i - 1] = arrival
  elseif kind == 2 or kind == 6 then
    states[2 * i - 1] = -1
    if y * 1000000 > now then
      local p, at = period_of(s, tag, y)
      if p[at + 1] <= y then
        if kind == 6 then
          restore(s, p, at, x, z)
        elseif makes then
          p[at + 3], s.changed = p[at + 3] + x, true
        end
        states[2 * i - 1], states[2 * i] = math.max(0, p[at + 2] + p[at + 3]), s.born
      end
    end
  elseif kind == 7 then
    is_undone = false
    if makes and s.session <= session then
      local gap = (s.last - x) % 4294967296
      if gap >= 2147483648 then gap = gap - 4294967296 end
      if s.bits == 0 then gap = -48 end
      is_undone, is_short = gap >= 0 and gap < 48 and floor(s.bits / 2 ^ gap) % 2 == 1, s.short == x
      if is_undone then s.bits = s.bits - 2 ^ gap end
      if gap < 0 then s.last, s.bits = x, gap > -48 and s.bits * 2 ^ -gap % WINDOW or 0 end
      -- Written in any case: with the record of this session, a call of an earlier one that is still to come has no effect.
      s.changed = true
    end
  else
    local l, own = lease_of(s, tag, node)
    local count = own and l[own + 3] or 0
    if s.session <= session then
      if kind == 3 and makes then
        count = math.max(0, count - x)
      elseif kind == 4 then
        count = math.max(count, x)
        -- An admission that is not known to the gateway's numbers has been executed since: they say nothing of the most.
        if s.bits == 0 or (z - s.last) % 4294967296 < 2147483648 then count = math.min(count, y) end
      end
      if own or count > 0 then renew(s, own, tag, node, count) end
      if count == 0 then s.grown = true end
    end
    states[2 * i - 1] = count
  end
end
-- Nothing is written before everything has been read.
if batch > 0 and not repeated then redis.call('SET', KEYS[1], string.format('%.0f', batch), 'PX', 86400000) end
for _, s in ipairs(subjects) do
  if s.changed then write(s, node, math.max(session, s.session)) end
end
return pack('<BBBd' .. rep('d', 2 * items), VERSION, repeated and 1 or 0, unreadable, now, unpack(states, 1, 2 * items))
