-- Reads and writes the packed value of one subject. Part of the scripts that admit and correct; version 2 of values and replies.
--
-- A value, little-endian: B version, B clocks, B periods, B nodes, B leases, I4 when the key expires in tenths of a second, which is no earlier
--   than the end of anything; then
--   each clock:  I4 tag, d time until which everything is paid for
--   if there are periods: d time at which the first one was made ("born"), and for each: I4 tag, I4 end in seconds, d restored, d counted
--   each node:   I6 gateway, I3 session, I4 expiry in tenths of a second, I4 last number, I6 which of the last 48 numbers were admitted (1: the
--                last one, 2: the one before …), I4 the last number that got less of a period than it asked for
--   each lease:  I4 tag, I6 gateway, I4 expiry in tenths of a second, I4 requests in flight
-- Times are microseconds since 2026 by the server's clock: numbers are doubles, and these are exact to 1/32 of a microsecond until 2035.
--
-- A script's functions are made again in each run, and its tables grow by copying: hence few functions, and tables that are made whole.
local VERSION, LEASE, MEMORY, KEPT, WINDOW, SPARE = 2, 15000000, 60000000, 600, 2 ^ 48, 1
local pack, take, rep, sub, floor = struct.pack, struct.unpack, string.rep, string.sub, math.floor
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local unreadable = 0

-- `c`, `p` and `l` are the numbers of all clocks, periods and leases, one after the other, of lengths `cn`, `pn` and `ln`; periods and leases are
-- unpacked when they are needed.
local function read(key, node)
  local raw = redis.pcall('GET', key) or ''
  if type(raw) == 'table' then
    -- A value of another type is replaced. Any other error is the server's, and ends the script.
    if not string.find(raw.err, 'WRONGTYPE', 1, true) then redis.call('GET', key) end
    raw, unreadable = '', unreadable + 1
  end
  local version, clocks, periods, nodes, leases, e1, e2, e3, e4 = string.byte(raw, 1, 9)
  if version == VERSION and e4 then
    local p_at = 10 + 12 * clocks
    local n_at = periods > 0 and p_at + 8 + 24 * periods or p_at
    local l_at = n_at + 27 * nodes
    if #raw == l_at - 1 + 18 * leases then
      local own_at, session, last, bits, short = nil, 0, 0, 0, 0
      for at = n_at, l_at - 1, 27 do
        local id, its_session, expiry, its_last, its_bits, its_short = take('<I6I3I4I4I6I4', raw, at)
        if id == node then
          own_at = at
          if expiry * 100000 > now then session, last, bits, short = its_session, its_last, its_bits, its_short end
          break
        end
      end
      return {
        key = key, raw = raw, c = clocks > 0 and { take('<' .. rep('I4d', clocks), raw, 10) } or {}, cn = 2 * clocks, p = nil, pn = 0,
        l = nil, ln = 0, born = nil, periods = periods, nodes = nodes, leases = leases, p_at = p_at, n_at = n_at, l_at = l_at,
        own_at = own_at, session = session, last = last, bits = bits, short = short,
        ends = ((e4 * 256 + e3) * 256 + e2) * 256 + e1, expires = ((e4 * 256 + e3) * 256 + e2) * 256 + e1, grown = false, changed = false,
      }
    end
  end
  local s = {
    key = key, raw = '', c = {}, cn = 0, p = {}, pn = 0, l = {}, ln = 0, periods = 0, nodes = 0, leases = 0, p_at = 10, n_at = 10, l_at = 10,
    session = 0, last = 0, bits = 0, short = 0, ends = 0, expires = 0, grown = true,
  }
  if raw == '' then return s end
  if version == 1 and nodes then
    -- An earlier form: B version, B clocks, B periods, B leases; clocks and periods as above; each lease: I4 tag, I6 gateway, I3 session, I4
    -- expiry, I4 requests in flight.
    leases = nodes
    local p_at = 5 + 12 * clocks
    local l_at = periods > 0 and p_at + 8 + 24 * periods or p_at
    if #raw == l_at - 1 + 21 * leases then
      if clocks > 0 then s.c, s.cn = { take('<' .. rep('I4d', clocks), raw, 5) }, 2 * clocks end
      if periods > 0 then
        s.born = take('<d', raw, p_at)
        s.p, s.pn = { take('<' .. rep('I4I4dd', periods), raw, p_at + 8) }, 4 * periods
      end
      for at = l_at, #raw, 21 do
        local tag, id, _, expiry, count = take('<I4I6I3I4I4', raw, at)
        local ln = s.ln
        s.l[ln + 1], s.l[ln + 2], s.l[ln + 3], s.l[ln + 4], s.ln = tag, id, expiry, count, ln + 4
        s.ends = math.max(s.ends, expiry)
      end
      for i = 2, s.cn, 2 do s.ends = math.max(s.ends, s.c[i] / 100000 + 1) end
      for i = 2, s.pn, 4 do s.ends = math.max(s.ends, s.p[i] * 10) end
      return s
    end
  end
  -- It counts as absent, and is replaced: only this subject is concerned.
  unreadable = unreadable + 1
  return s
end

-- Writes a value with the gateway's record.
local function write(s, node, session)
  local raw, c, second, fourth, periods, leases = s.raw, s.c, s.p, s.l, s.periods, s.leases
  if s.grown then
    -- What has ended makes room, so that a value does not grow. At most 255 of each are kept.
    local function keep(all, length, width, is_kept)
      local kept = 0
      for at = 1, length, width do
        if kept < 255 * width and is_kept(all, at) then
          for i = 0, width - 1 do all[kept + 1 + i] = all[at + i] end
          kept = kept + width
        end
      end
      return kept
    end
    s.cn = keep(c, s.cn, 2, function(all, at) return all[at + 1] > now end)
    if second then s.pn = keep(second, s.pn, 4, function(all, at) return all[at + 1] * 1000000 > now end) end
    if fourth then s.ln = keep(fourth, s.ln, 4, function(all, at) return all[at + 3] > 0 and all[at + 2] * 100000 > now end) end
  end
  if second then
    periods = s.pn / 4
    second = periods > 0 and pack('<d' .. rep('I4I4dd', periods), s.born, unpack(second, 1, s.pn)) or ''
  else
    second = periods > 0 and sub(raw, s.p_at, s.n_at - 1) or ''
  end
  if fourth then
    leases = s.ln / 4
    fourth = leases > 0 and pack('<' .. rep('I4I6I4I4', leases), unpack(fourth, 1, s.ln)) or ''
  else
    fourth = leases > 0 and sub(raw, s.l_at) or ''
  end
  local expiry, ends, nodes, own_at = floor((now + MEMORY) / 100000), s.ends, s.nodes, s.own_at
  if expiry > ends then ends = expiry end
  -- A time to live that is long enough is kept, which is cheaper than another one. So it is made longer than needed.
  local is_kept = ends <= s.expires
  ends = is_kept and s.expires or ends + KEPT
  local third = pack('<I6I3I4I4I6I4', node, session, expiry, s.last, s.bits, s.short)
  if not own_at then
    -- The records of gateways that are gone make room.
    local count = 1
    for at = s.n_at, s.l_at - 1, 27 do
      if count < 255 and take('<I4', raw, at + 9) * 100000 > now then
        third, count = third .. sub(raw, at, at + 26), count + 1
      end
    end
    nodes = count
  elseif nodes > 1 then
    third = sub(raw, s.n_at, own_at - 1) .. third .. sub(raw, own_at + 27, s.l_at - 1)
  end
  local first = pack('<BBBBBI4' .. rep('I4d', s.cn / 2), VERSION, s.cn / 2, periods, nodes, leases, ends, unpack(c, 1, s.cn))
  local value = first .. second .. third .. fourth
  if is_kept then
    redis.call('SET', s.key, value, 'KEEPTTL')
  else
    redis.call('SET', s.key, value, 'PX', floor(ends * 100 - now / 1000) + SPARE)
  end
end
