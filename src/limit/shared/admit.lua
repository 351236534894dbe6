-- Admits a request under all limits of some subjects, or under none. Version 2.
--
-- KEYS: the values of the subjects. ARGV[1]: numbers, packed as ARGV[2] says: the gateway, its session, items; for each key the number of this
-- admission, by which a call that is run twice is known; for each item the position of the key, of the limit, kind (1 clock, 2 period, 3 requests
-- in flight; 16 more: the limit only counts), tag, and
--   clock:     time that the use takes, tolerance
--   period:    units, quantity, end of the period in seconds, sum that this gateway has seen, when that value was born
--   in flight: most, requests of this gateway that are in flight, should its lease be lost
-- Reply, packed as ARGV[3] says: version, admitted (1) or not (0; 2: a later session of the gateway was here), values that could not be read,
-- item that refused, wait in microseconds (-1: unknown), now; for each item
--   clock: time until which everything is paid for; period: sum, born, units taken; in flight: all requests
-- and, if a limit that only counts would have refused, for each item B 0, or 1 if it belongs to that limit, or 2 if it is why.
local a = { take(ARGV[2], ARGV[1]) }
local node, session, items, first = a[1], a[2], a[3], 4 + #KEYS
-- So many places that most replies fit.
local out = { VERSION, 1, 0, 0, 0, now, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
local subjects, repeated, skipped, refused, wait = {}, false, nil, 0, 0
for i = 1, #KEYS do
  local s = read(KEYS[i], node)
  subjects[i] = s
  local number = a[3 + i]
  -- Numbers begin again after 2 ^ 32. Without any that was admitted, there is no last one.
  local gap = (number - s.last) % 4294967296
  if gap >= 2147483648 then gap = gap - 4294967296 end
  if s.bits == 0 then gap = 48 end
  if s.session > session then return pack('<BBBI2dd', VERSION, 2, unreadable, 0, -1, now) end
  -- It becomes the last number, if it is admitted.
  if gap == 1 then
    s.last, s.bits = number, (s.bits * 2 + 1) % WINDOW
  elseif gap > 0 then
    s.last, s.bits = number, gap < 48 and (s.bits * 2 ^ gap) % WINDOW + 1 or 1
  elseif gap > -48 then
    if floor(s.bits / 2 ^ -gap) % 2 == 1 then repeated = true else s.bits = s.bits + 2 ^ -gap end
  end
  -- Of an earlier one nobody knows. It is more probably late than a repetition: 48 others have been admitted since it was numbered.
end

local position, s, c, ends, hint, o, k = 0, nil, nil, 0, 1, first, 7
for i = 1, items do
  local kind, tag, x, y = a[o + 2], a[o + 3], a[o + 4], a[o + 5]
  local limit, counts_only, missing = a[o + 1], false, nil
  if a[o] ~= position then
    if s and ends > s.ends then s.ends = ends end
    position = a[o]
    s, hint, ends = subjects[position], 1, 0
    c = s.c
  end
  if kind >= 16 then kind, counts_only = kind - 16, true end
  if kind == 1 then
    if hint > s.cn or c[hint] ~= tag then
      hint = 1
      while hint <= s.cn and c[hint] ~= tag do hint = hint + 2 end
      if hint > s.cn then c[hint], c[hint + 1], s.cn, s.grown = tag, 0, hint + 1, true end
    end
    local after = c[hint + 1]
    if not repeated then
      if after < now then after = now end
      after = after + x
      if after - now > y then
        missing = after - now - y
      else
        c[hint + 1] = after
        if after > ends * 100000 - 100000 then ends = after / 100000 + 1 end
      end
    end
    out[k] = after
    hint, k, o = hint + 2, k + 1, o + 6
  elseif kind == 2 then
    local p, at = period_of(s, tag, a[o + 6])
    restore(s, p, at, a[o + 7], a[o + 8])
    local used, taken = math.max(0, p[at + 2] + p[at + 3]), x
    if repeated then
      -- How much was taken when less was left than asked for is not known any more: none of it is given back.
      if s.short == a[3 + position] then taken = 0 end
    elseif used >= y then
      missing = p[at + 1] * 1000000 - now
    else
      if y - used < x then taken, s.short = y - used, a[3 + position] end
      p[at + 3] = p[at + 3] + taken
      used = math.max(0, p[at + 2] + p[at + 3])
    end
    out[k], out[k + 1], out[k + 2] = used, s.born, taken
    k, o = k + 3, o + 9
  else
    local l, own, others = lease_of(s, tag, node)
    local mine = own and l[own + 3] or y
    if not repeated then
      if others + mine >= x then
        missing = -1
      else
        mine = mine + 1
        renew(s, own, tag, node, mine)
      end
    end
    out[k] = others + mine
    k, o = k + 1, o + 6
  end
  if missing then
    if counts_only then
      skipped = skipped or {}
      skipped[limit] = skipped[limit] or i
    elseif refused == 0 then
      refused, wait = i, missing
    end
  end
end
if ends > s.ends then s.ends = ends end

local flags = ''
if refused > 0 or skipped then
  -- What was counted above of items that are not admitted is replaced by what the values say.
  local before = {}
  for i = 1, #KEYS do before[i] = read(KEYS[i], node) end
  o, k = first, 7
  for i = 1, items do
    local kind, tag, b, s = a[o + 2] % 16, a[o + 3], before[a[o]], subjects[a[o]]
    local why = skipped and skipped[a[o + 1]]
    if skipped then flags = flags .. string.char(why and (why == i and 2 or 1) or 0) end
    local is_undone = refused > 0 or why
    if is_undone and kind == 1 then
      local arrival = 0
      for at = 1, b.cn, 2 do
        if b.c[at] == tag then arrival = b.c[at + 1] end
      end
      for at = 1, s.cn, 2 do
        if s.c[at] == tag then s.c[at + 1] = arrival end
      end
      out[k] = arrival
    elseif is_undone and kind == 2 then
      local p, at = period_of(b, tag, a[o + 6])
      restore(b, p, at, a[o + 7], a[o + 8])
      local its, its_at = period_of(s, tag, a[o + 6])
      its[its_at + 3] = p[at + 3]
      out[k], out[k + 1], out[k + 2] = math.max(0, p[at + 2] + p[at + 3]), b.born, 0
    elseif is_undone then
      local l, own, others = lease_of(b, tag, node)
      local mine = own and l[own + 3] or a[o + 5]
      local its, its_own = lease_of(s, tag, node)
      if its_own then its[its_own + 3] = mine end
      out[k] = others + mine
    end
    if kind == 2 then k, o = k + 3, o + 9 else k, o = k + 1, o + 6 end
  end
end

if refused > 0 then
  out[2], out[4], out[5] = 0, refused, wait
elseif not repeated then
  for i = 1, #KEYS do write(subjects[i], node, session) end
end
out[3] = unreadable
return pack(ARGV[3], unpack(out, 1, k - 1)) .. flags
