-- Applies what a gateway knows of requests that it has admitted: corrections, leases, and what has to be restored. Version 1.
--
-- KEYS[1]: the number of the last batch of this gateway, if the batch has a number. KEYS[2…]: the values of the subjects.
-- ARGV[1], little-endian: I6 node, I3 session, d number of the batch (0: applying it twice does no harm), I2 items; for each item
--   I2 position of the key, B kind, I4 tag, three d:
--   1 clock: time, which is added          2 period: units, which are added; end of the period
--   3 in flight: requests that have ended  4 in flight: requests that there are   5 in flight: requests that there are at least
--   6 period: sum that this gateway has seen, end of the period, when that value was born
-- Reply: B version, B whether the batch had been applied before, d now; for each item two d: clock: time until which everything is paid for;
-- period: sum, born; in flight: requests of this gateway
local node, session, batch, items, at = struct.unpack('<I6I3dI2', ARGV[1])
local all = { struct.unpack('<' .. string.rep('I2BI4ddd', items), ARGV[1], at) }
local repeated = false
if batch > 0 then
  local last = redis.call('GET', KEYS[1])
  repeated = last and tonumber(last) >= batch
  if not repeated then redis.call('SET', KEYS[1], string.format('%.0f', batch), 'PX', 3600000) end
end

local subjects, states = {}, {}
for position = 2, #KEYS do subjects[position - 1] = read(KEYS[position]) end
for i = 1, items do
  local o = 6 * i - 5
  local subject, kind, tag, a, b, c = subjects[all[o]], all[o + 1], all[o + 2], all[o + 3], all[o + 4], all[o + 5]
  if kind == 1 then
    local arrival = subject.clocks[tag] or 0
    if not repeated and (a > 0 or arrival > now) then
      if a > 0 then arrival = math.max(arrival, now) end
      arrival = arrival + a
      subject.clocks[tag], subject.changed = arrival, true
    end
    states[i] = { arrival, 0 }
  elseif kind == 2 or kind == 6 then
    local known = subject.periods[tag]
    if b * 1000000 <= now or (known and known.ends > b) then
      states[i] = { -1, 0 }
    else
      local period = period_of(subject, tag, b)
      if kind == 6 then
        restore(subject, period, a, c)
      elseif not repeated then
        period.counted, subject.changed = period.counted + a, true
      end
      states[i] = { sum(period), subject.born }
    end
  else
    local own = lease_of(subject, tag, node)
    local count = own and own.count or 0
    if not (own and own.session > session) then
      if kind == 3 and not repeated then
        count = math.max(0, count - a)
      elseif kind == 4 then
        count = a
      elseif kind == 5 then
        count = math.max(count, a)
      end
      if own or count > 0 then renew(subject, own, tag, node, session, count) end
    end
    states[i] = { count, 0 }
  end
end
for _, subject in ipairs(subjects) do
  if subject.changed then write(subject) end
end

local form, out = { '<BBd' }, { VERSION, repeated and 1 or 0, now }
for i = 1, items do
  form[#form + 1] = 'dd'
  out[#out + 1], out[#out + 2] = states[i][1], states[i][2]
end
return struct.pack(table.concat(form), unpack(out))
