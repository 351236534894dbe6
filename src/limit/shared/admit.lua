-- Admits a request under all limits of some subjects, or under none. Version 1.
--
-- KEYS: the values of the subjects. ARGV[1], little-endian: I6 node, I3 session, I2 items; for each item
--   B position of the key, I2 limit, B kind (1 clock, 2 period, 3 requests in flight; 16 more: the limit only counts), I4 tag, and five d:
--   clock:     time that the use takes, tolerance
--   period:    units, quantity, end of the period in seconds, sum that this gateway has seen, when that value was born
--   in flight: most, requests of this gateway that are in flight
-- Reply: B version, B admitted (1) or not (0; 2: a later session of the gateway was here), I2 item that refused, d wait in microseconds
-- (-1: unknown), d now; for each item: B 0, or 1 where the limit only counts and would have refused, 2 because of this item; and three d:
--   clock: time until which everything is paid for; period: sum, born, units taken; in flight: all requests
local node, session, items, at = struct.unpack('<I6I3I2', ARGV[1])
local all = { struct.unpack('<' .. string.rep('BI2BI4ddddd', items), ARGV[1], at) }
local subjects, skipped, plans, states, flags = {}, {}, {}, {}, {}
local refused, wait = 0, 0
for position, key in ipairs(KEYS) do subjects[position] = read(key) end

for i = 1, items do
  local o = 9 * i - 8
  local subject, limit, kind, tag = subjects[all[o]], all[o + 1], all[o + 2], all[o + 3]
  local a, b, c, d, e = all[o + 4], all[o + 5], all[o + 6], all[o + 7], all[o + 8]
  local counts_only = kind >= 16
  if counts_only then kind = kind - 16 end
  local missing = nil
  if kind == 1 then
    local arrival = subject.clocks[tag] or 0
    local after = math.max(arrival, now) + a
    local excess = after - now - b
    if excess > 0 then missing = excess else plans[i] = after end
    states[i] = { arrival, 0, 0 }
  elseif kind == 2 then
    local period = period_of(subject, tag, c)
    restore(subject, period, d, e)
    local used = sum(period)
    local left = b - used
    if left <= 0 then missing = period.ends * 1000000 - now else plans[i] = math.min(a, left) end
    states[i] = { used, subject.born, 0 }
  else
    local own, others = lease_of(subject, tag, node)
    if own and own.session > session then return struct.pack('<BBI2dd', VERSION, 2, i, -1, now) end
    local mine = math.max(own and own.count or 0, b)
    if others + mine >= a then missing = -1 else plans[i] = mine + 1 end
    states[i] = { others + mine, 0, 0 }
  end
  if missing and counts_only then
    skipped[limit] = true
    flags[i] = 2
  elseif missing and refused == 0 then
    refused, wait = i, missing
  end
end

if refused == 0 then
  for i = 1, items do
    local o = 9 * i - 8
    local subject, kind, tag = subjects[all[o]], all[o + 2] % 16, all[o + 3]
    if not skipped[all[o + 1]] then
      subject.changed = true
      if kind == 1 then
        subject.clocks[tag] = plans[i]
        states[i][1] = plans[i]
      elseif kind == 2 then
        local period = subject.periods[tag]
        period.counted = period.counted + plans[i]
        states[i][1], states[i][3] = sum(period), plans[i]
      else
        local own = lease_of(subject, tag, node)
        states[i][1] = states[i][1] + 1
        renew(subject, own, tag, node, session, plans[i])
      end
    end
  end
  for _, subject in ipairs(subjects) do
    if subject.changed then write(subject) end
  end
end

local form, out = { '<BBI2dd' }, { VERSION, refused == 0 and 1 or 0, refused, wait, now }
for i = 1, items do
  form[#form + 1] = 'Bddd'
  out[#out + 1] = flags[i] or (skipped[all[9 * i - 7]] and 1 or 0)
  local state = states[i]
  out[#out + 1], out[#out + 2], out[#out + 3] = state[1], state[2], state[3]
end
return struct.pack(table.concat(form), unpack(out))
