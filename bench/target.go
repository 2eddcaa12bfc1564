package main

import "slices"

// row is one line of what is promised: a number a round, and what its median should be.
type row struct {
	name    string
	unit    string
	values  []float64
	atLeast float64 // 0: nothing is promised
	aim     float64
	lower   bool // less is better
}

// verdict compares the median with what is promised.
func (r *row) verdict() string {
	m := median(r.values)
	met := func(limit float64) bool {
		if r.lower {
			return m <= limit
		}
		return m >= limit
	}
	switch {
	case r.atLeast == 0:
		return ""
	case r.aim != 0 && met(r.aim):
		return "aim reached"
	case met(r.atLeast):
		return "holds"
	}
	return "**falls short**"
}

// rival is another program, as it was measured for docs of the design with wrk at c=64, beside the hello of that day.
type rival struct {
	name          string
	perSecond     float64
	atLeast, best float64
}

// rivalsHello is that hello. What is compared are ratios to hello, since machines differ.
const rivalsHello = 66_008

const unkey = 11_253

func rivals() []rival {
	return []rival{
		{"Hydra, opaque token", 2_068, 4, 8},
		{"OpenBao look-up, audited", 5_027, 2, 4},
		{"Unkey verifyKey", unkey, 0.9, 1.5},
	}
}

// rows are what the project promises, as far as it was measured.
func (b *book) rows() []row {
	rows := slices.Concat(b.throughputRows(), b.latencyRows(), b.codeRows(), b.scaleRows(), b.sqlKeyRows(), b.footprintRows())
	return slices.DeleteFunc(rows, func(r row) bool { return len(r.values) == 0 })
}

func (b *book) throughputRows() []row {
	at := func(name string) key { return key{name, 64} }
	toHello := func(name string) []float64 { return b.ratios(at(name), perSecond, at(cellHello), perSecond) }
	rows := []row{
		{"/verify, token seen before, two tenants, c=64 / hello", "x", toHello(cellDifferent), 0.15, 0.30, false},
		{"/verify, token seen before, same tenant, c=64 / hello", "x", toHello(cellSame), 0.15, 0.30, false},
		{"/verify, every token new, two tenants, c=64 / hello", "x", toHello(cellNew), 0.07, 0.11, false},
		{"/verify, every token new, same tenant, c=64 / hello", "x", toHello(cellNewSame), 0.07, 0.11, false},
	}
	for _, r := range rivals() {
		ratios := toHello(cellDifferent)
		for i := range ratios {
			ratios[i] /= r.perSecond / rivalsHello
		}
		rows = append(rows, row{"/verify, seen, two tenants, c=64 / " + r.name, "x", ratios, r.atLeast, r.best, false})
	}
	keys := func(name string) []float64 {
		ratios := toHello(name)
		for i := range ratios {
			ratios[i] /= float64(unkey) / rivalsHello
		}
		return ratios
	}
	return append(rows,
		row{"keys/verify, c=64 / Unkey verifyKey", "x", keys(cellKey), 1, 1.5, false},
		row{"keys/verify of a metered key, one counter for all, c=64 / Unkey verifyKey", "x", keys(cellKeyMeters), 0, 0, false},
		row{"deny / allow, every token new, two tenants, c=64", "x", b.ratios(at(cellDeny), perSecond, at(cellNew), perSecond), 0.9, 1, false},
		row{"issue a token, one tenant, c=64", "/s", b.values(at(cellIssue), perSecond), 2000, 4000, false},
		row{"the same / hello (2,000 is 0.030 of the hello where the targets were set)", "x", toHello(cellIssue), 0.030, 0.060, false},
		row{"issue a token, many tenants, c=64", "/s", b.values(at(cellIssueWide), perSecond), 0, 0, false},
	)
}

func (b *book) latencyRows() []row {
	var rows []row
	for _, cell := range []struct{ name, said string }{{cellDifferent, "two tenants"}, {cellSame, "same tenant"}} {
		at := func(conns int) key { return key{cell.name, conns} }
		of := "of /verify, seen, " + cell.said
		rows = append(rows,
			row{"p50 " + of + ", c=1 / fdatasync", "x", b.perDisk(at(1), p50), 5, 3, true},
			row{"p99 " + of + ", c=16", "ms", b.values(at(16), p99), 10, 5, true},
			row{"p99 " + of + ", c=64", "ms", b.values(at(64), p99), 20, 10, true},
			row{"the same / p99 of hello (there 5.5 ms)", "x", b.ratios(at(64), p99, key{cellHello, 64}, p99), 20 / 5.5, 10 / 5.5, true},
			row{"CPU " + of + ", c=64 (server + Postgres)", "us", b.values(at(64), cpu), 120, 80, true},
			row{"the same / CPU of hello (there 18 us)", "x", b.ratios(at(64), cpu, key{cellHello, 64}, cpu), 120. / 18, 80. / 18, true},
		)
	}
	plain := key{cellDifferent, 64}
	for _, cell := range []struct{ name, said, did, unit string }{
		{cellExport, "an export of the log runs", "export_bytes", "B/s"}, {cellEntries, "the log is read page by page", "entries", "entries/s"},
	} {
		k := key{cell.name, 64}
		rows = append(rows,
			row{"/verify while " + cell.said + " / without, c=64", "x", b.ratios(k, perSecond, plain, perSecond), 0, 0, false},
			row{"p99 of /verify while " + cell.said + ", c=64", "ms", b.values(k, p99), 0, 0, true},
			row{"read meanwhile, as " + cell.said, cell.unit, b.values(k, beside(cell.did)), 0, 0, false},
		)
	}
	return append(rows, b.signInRows()...)
}

// signInRows are what people who sign in cost, and cost others: each of them has the server hash for a fifth of a second.
func (b *book) signInRows() []row {
	beside16, plain, alone := key{cellSignIns, 16}, key{cellDifferent, 16}, key{cellSignIn, 1}
	return []row{
		{"p99 of /verify, seen, two tenants, c=16, while people sign in back to back", "ms", b.values(beside16, p99), 50, 0, true},
		{"the same / without", "x", b.ratios(beside16, p99, plain, p99), 0, 0, true},
		{"/verify while people sign in / without, c=16", "x", b.ratios(beside16, perSecond, plain, perSecond), 0, 0, false},
		{"sign-ins meanwhile", "/s", b.values(beside16, beside("sign_ins")), 0, 0, false},
		{"sign-in by password, from a known device, one after another", "/s", b.values(alone, perSecond), 0, 0, false},
		{"p50 of the same", "ms", b.values(alone, p50), 0, 0, true},
	}
}

func (b *book) scaleRows() []row {
	var rows []row
	for _, cell := range []struct{ one, crowd, two, said string }{
		{cellSame, cellCrowd, cellTwoSame, "same tenant"}, {cellDifferent, cellCrowdTwo, cellTwo, "two tenants"},
	} {
		base, wide := key{cell.one, 64}, key{cell.crowd, 512}
		rows = append(rows,
			row{"512 connections and many tenants / 64 and one, " + cell.said, "x", b.ratios(wide, perSecond, base, perSecond), 0.9, 0, false},
			row{"the same, CPU a request", "x", b.ratios(wide, cpu, base, cpu), 1.1, 0, true},
			row{"two servers on one hot tenant / one, " + cell.said + ", c=64", "x", b.ratios(key{cell.two, 64}, perSecond, base, perSecond), 1, 0, false},
			row{"two servers on one hot tenant / one, " + cell.said + ", c=512", "x", b.ratios(key{cell.two, 512}, perSecond, key{cell.one, 512}, perSecond), 1, 0, false},
		)
	}
	return rows
}

func (b *book) footprintRows() []row {
	var ready, idle []float64
	for _, s := range b.Starts {
		ready, idle = append(ready, s.Ready), append(idle, float64(s.Memory)/1e6)
	}
	loaded := map[int]float64{}
	for _, k := range b.keys() {
		if k.name == cellHello || k.name == cellSignIns || k.name == cellSignIn {
			continue // the memory of hashes has a bound of its own: strangers.TestSignInCrowdSoak
		}
		for round, mb := range b.byRound(k, megabytes) {
			loaded[round] = max(loaded[round], mb)
		}
	}
	rows := []row{
		{"cold start, schema in place", "ms", ready, 150, 80, true},
		{"resident memory, idle", "MB", idle, 50, 35, true},
		{"resident memory, the most under any load", "MB", inOrder(loaded), 120, 80, true},
	}
	if size := b.Conditions.BinaryBytes; size > 0 {
		rows = append(rows, row{"program file", "MB", []float64{float64(size) / 1e6}, 40, 25, true})
	}
	return rows
}
