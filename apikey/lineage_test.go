package apikey

import (
	"crypto/elliptic"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// maker is what a service key has that makes keys.
var maker = []string{"keys:read", "keys:write", "verify"}

// line is a key with all that can come from one.
type line struct {
	old, key              Created // two generations
	early, late           Created // what each of them made
	successor             Created // of early
	grand, data, imported string
}

func (f fixture) line(t *testing.T, owner tenantdb.Caller) (l line) {
	t.Helper()
	rotate := func(by tenantdb.Caller, k Created) Created {
		t.Helper()
		made, err := f.room.Rotate(t.Context(), by, k.ID, time.Hour)
		must(t, err)
		return made
	}
	l.old = f.service(t, owner, NewKey{Scopes: maker})
	l.early = f.make(t, f.as(t, l.old), NewKey{Kind: Service, Scopes: maker})
	l.key = rotate(owner, l.old)
	l.late = f.make(t, f.as(t, l.key), NewKey{Kind: Service, Scopes: maker})
	l.successor = rotate(owner, l.early)
	l.grand = f.make(t, f.as(t, l.successor), NewKey{Kind: Service, Scopes: []string{"verify"}}).ID
	l.data = f.make(t, f.as(t, l.old), NewKey{Kind: Data}).ID
	done, err := f.room.Import(t.Context(), f.as(t, l.late), []Foreign{foreign("a key from elsewhere "+l.late.ID, NewKey{})})
	must(t, err)
	l.imported = done[0].KeyID
	return l
}

// fromOld and fromKey are what came from the two generations.
func (l line) fromOld() []string { return []string{l.early.ID, l.successor.ID, l.grand, l.data} }
func (l line) fromKey() []string { return append(l.fromOld(), l.late.ID, l.imported) }

// revoked are those of some keys that are revoked.
func (f fixture) revoked(t *testing.T, by tenantdb.Caller, ids ...string) (out []string) {
	t.Helper()
	for _, id := range ids {
		k, err := f.room.Get(t.Context(), by, id)
		must(t, err)
		if k.Status(f.now.Now()) == Revoked {
			out = append(out, id)
		}
	}
	return out
}

// TestRevocationWithChildren: with a key ends, if that is asked for, what it and its earlier generations made, and what came from
// that, on every server at once, in one transaction with the entry that names them; and nothing else does.
func TestRevocationWithChildren(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := on(f.Another(t))
	id, owner := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	peer, their := f.line(t, owner), f.line(t, theirs)
	for what, tt := range map[string]struct {
		end   func(line) Created
		ended func(line) []string
	}{
		"the newest generation":     {func(l line) Created { return l.key }, line.fromKey},
		"the one before":            {func(l line) Created { return l.old }, line.fromOld},
		"a child":                   {func(l line) Created { return l.late }, func(l line) []string { return []string{l.imported} }},
		"a child that was replaced": {func(l line) Created { return l.successor }, func(l line) []string { return []string{l.grand} }},
	} {
		l := f.line(t, owner)
		all := append(l.fromKey(), l.old.ID, l.key.ID)
		k := tt.end(l)
		epoch := f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String())
		e, err := f.room.End(t.Context(), owner, k.ID, true)
		must(t, err)
		should := tt.ended(l)
		slices.Sort(should)
		if e.Status(time.Now()) != Revoked || e.Children != len(should) || e.Left != 0 {
			t.Errorf("%s: %+v", what, e)
		}
		got := f.revoked(t, owner, all...)
		slices.Sort(got)
		if with := slices.Sorted(slices.Values(append(slices.Clone(should), k.ID))); !slices.Equal(got, with) {
			t.Errorf("%s: %v ended, want %v", what, got, with)
		}
		for _, c := range []Created{l.early, l.late} {
			if !slices.Contains(should, c.ID) {
				continue
			}
			_, err := other.room.Authenticate(t.Context(), c.Secret.Expose(), web.RequestMeta{})
			want(t, err, problem.Unauthenticated, what+": a child, on another server")
		}
		logged := f.OfType(t, id, "key.revoked")
		last := logged[len(logged)-1]
		if told := slices.Sorted(slices.Values(strings.Fields(last.Field("ended")))); last.Target.ID != k.ID || last.Field("children") != fmt.Sprint(len(should)) || !slices.Equal(told, should) {
			t.Errorf("%s: the entry is %+v", what, last)
		}
		if f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String()) == epoch {
			t.Errorf("%s: the epoch stayed", what)
		}
		entries := len(f.Entries(t, id))
		if e, err = f.room.End(t.Context(), owner, k.ID, true); err != nil || e.Children != 0 || len(f.Entries(t, id)) != entries {
			t.Errorf("%s, once more: %+v, %v", what, e, err)
		}
	}
	if got := append(f.revoked(t, owner, append(peer.fromKey(), peer.old.ID, peer.key.ID)...), f.revoked(t, theirs, append(their.fromKey(), their.old.ID, their.key.ID)...)...); got != nil {
		t.Errorf("others ended: %v", got)
	}
	f.as(t, peer.early)
}

// TestRevocationOfOneKey: a key ends alone, its answer says how many that came from it go on working, and they can be ended later.
func TestRevocationOfOneKey(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	l := f.line(t, owner)
	e, err := f.room.End(t.Context(), owner, l.key.ID, false)
	if got := f.revoked(t, owner, append(l.fromKey(), l.key.ID)...); err != nil || e.Children != 0 || e.Left != 6 || !slices.Equal(got, []string{l.key.ID}) {
		t.Errorf("%+v, %v: %v ended", e, err, got)
	}
	f.as(t, l.late)
	if last := f.Last(t, id); last.Type != "key.revoked" || last.Field("children") != "" || last.Field("ended") != "" {
		t.Errorf("the entry is %+v", last)
	}
	entries := len(f.Entries(t, id))
	if e, err = f.room.End(t.Context(), owner, l.key.ID, false); err != nil || e.Left != 6 || e.Version != 2 || len(f.Entries(t, id)) != entries {
		t.Errorf("once more: %+v, %v", e, err)
	}
	e, err = f.room.End(t.Context(), owner, l.key.ID, true)
	if got := f.revoked(t, owner, l.fromKey()...); err != nil || e.Children != 6 || e.Left != 0 || len(got) != 6 || e.Version != 2 {
		t.Errorf("later: %+v, %v: %v ended", e, err, got)
	}
	if last := f.Last(t, id); last.Type != "key.revoked" || last.Target.ID != l.key.ID || last.Field("children") != "6" {
		t.Errorf("the entry is %+v", last)
	}
	l = f.line(t, owner)
	must(t, second(f.room.Revoke(t.Context(), owner, l.key.ID)))
	if got := f.revoked(t, owner, l.fromKey()...); got != nil {
		t.Errorf("Revoke ended %v", got)
	}
	// Rotation and its overlaps are no alarm.
	l = f.line(t, owner)
	must(t, second(f.room.Rotate(t.Context(), owner, l.key.ID, 0)))
	if got := f.revoked(t, owner, append(l.fromKey(), l.key.ID, l.old.ID)...); !slices.Equal(got, []string{l.key.ID, l.old.ID}) {
		t.Errorf("a rotation ended %v", got)
	}
	must(t, second(f.room.Disable(t.Context(), owner, l.early.ID)))
	f.as(t, l.late)
}

// TestRevocationTellsWhatIsLeft: neither what had ended before, nor the key's own generations, nor what its successor made.
func TestRevocationTellsWhatIsLeft(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	_, owner := f.owner(t, "Acme")
	l := f.line(t, owner)
	left := func(what, id string, n int) {
		t.Helper()
		if e, err := f.room.End(t.Context(), owner, id, false); err != nil || e.Left != n || e.Children != 0 {
			t.Errorf("%s: %+v, %v; want %d left", what, e, err, n)
		}
	}
	f.make(t, f.as(t, l.late), NewKey{Kind: Data, ExpiresAt: now.Now().Add(time.Minute)})
	left("an old generation", l.old.ID, 4)
	left("what made nothing", l.data, 0)
	must(t, second(f.room.Disable(t.Context(), owner, l.late.ID))) // it may be let work again
	left("with one revoked and one disabled", l.key.ID, 6)
	now.move(time.Minute - time.Microsecond)
	left("a moment before one expires", l.key.ID, 6)
	now.move(time.Microsecond)
	left("when it has", l.key.ID, 5)
	left("a child that was replaced and made nothing", l.early.ID, 0)
	left("its successor", l.successor.ID, 1)
	left("of what two that are revoked have made", l.key.ID, 3)
}

// TestManyChildrenEndTogether: more than fit in one entry, and more than are counted: to count stops there.
func TestManyChildrenEndTogether(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{Scopes: maker})
	by := f.as(t, k)
	var ids []string
	for part := range 3 {
		keys := make([]Foreign, 400)
		for i := range keys {
			keys[i] = foreign(fmt.Sprintf("a key from elsewhere, %d of part %d", i, part), NewKey{})
		}
		done, err := f.room.Import(t.Context(), by, keys)
		must(t, err)
		for _, d := range done {
			ids = append(ids, d.KeyID)
		}
	}
	e, err := f.room.End(t.Context(), owner, k.ID, false)
	if err != nil || e.Children != 0 || e.Left != MostLeft {
		t.Errorf("alone: %+v, %v", e, err)
	}
	plan := f.Text(t, `EXPLAIN (ANALYZE, FORMAT JSON) `+lineLeftSQL, id.String(), k.ID, k.CreatedAt, time.Now(), 20)
	if read := regexp.MustCompile(`"Recursive Union"[^}]*?"Actual Rows": (\d+)`).FindStringSubmatch(plan); read == nil || read[1] != "21" { // and itself
		t.Errorf("to count 20 keys this was read: %s", plan)
	}
	before := len(f.Entries(t, id))
	began := time.Now()
	e, err = f.room.End(t.Context(), owner, k.ID, true)
	t.Logf("measured: %d keys ended in %v", len(ids), time.Since(began))
	if err != nil || e.Children != len(ids) {
		t.Fatalf("%+v, %v", e, err)
	}
	if left := f.Text(t, `SELECT count(*)::text FROM avouch.api_key WHERE made_by = $1 AND revoked_at IS NULL`, k.ID); left != "0" {
		t.Errorf("%s are left", left)
	}
	var told []string
	for i, e := range f.Entries(t, id)[before:] {
		if e.Target.ID != k.ID || e.Type != []string{"key.revoked", "key.children_revoked", "key.children_revoked", "key.children_revoked"}[i] {
			t.Errorf("entry %d is %+v", i, e)
		}
		told = append(told, strings.Fields(e.Field("ended"))...)
	}
	slices.Sort(told)
	slices.Sort(ids)
	if !slices.Equal(told, ids) {
		t.Errorf("the log names %d of %d", len(told), len(ids))
	}
}

// TestMoreChildrenThanEndAtOnce: all end before the answer, those first that could make more, also if the key revokes itself.
func TestMoreChildrenThanEndAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.room.endsAtOnce = 3
	id, owner := f.owner(t, "Acme")
	for what, by := range map[string]func(Created) tenantdb.Caller{
		"by another": func(Created) tenantdb.Caller { return owner }, "by itself": func(k Created) tenantdb.Caller { return f.as(t, k) },
	} {
		end := func(k Created) (int, error) {
			e, err := f.room.End(t.Context(), by(k), k.ID, true)
			return e.Children, err
		}
		k := f.service(t, owner, NewKey{Scopes: maker})
		by := f.as(t, k)
		var data, makers []string
		for range 6 {
			data = append(data, f.make(t, by, NewKey{Kind: Data}).ID)
		}
		for range 2 {
			makers = append(makers, f.make(t, by, NewKey{Kind: Service, Scopes: maker}).ID)
		}
		before := len(f.Entries(t, id))
		n, err := end(k)
		if got := f.revoked(t, owner, append(data, makers...)...); err != nil || n != 8 || len(got) != 8 {
			t.Errorf("%s: %d, %v; %v ended", what, n, err, got)
		}
		logged := f.Entries(t, id)[before:]
		if len(logged) != 3 || logged[0].Field("children") != "3" || logged[2].Field("children") != "2" {
			t.Errorf("%s: the log has %+v", what, logged)
		}
		for _, m := range makers {
			if !strings.Contains(logged[0].Field("ended"), m) {
				t.Errorf("%s: a key that can make more did not end first", what)
			}
		}
	}
}

// TestLeakTellsOfTheLine: an alert about an organisation's first key must not end all its customers' keys, so what came from a key
// that leaked goes on working, and the entry and the mail say how many there are.
func TestLeakTellsOfTheLine(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "now", elliptic.P256())
	f, api := open(t).gitHub(t, s)
	id, owner := f.owner(t, "Acme")
	l := f.line(t, owner)
	alerted := func(k Created) {
		t.Helper()
		body := alertOf(k.Secret.Expose())
		for range 2 {
			if status, raw := alert(t, api, "now", s.sign(t, body), body); status != http.StatusOK {
				t.Fatal(status, raw)
			}
		}
	}
	told := func(what, left string, all int) {
		t.Helper()
		entries, jobs := f.OfType(t, id, "key.leaked"), f.jobs(t)
		if len(entries) != all || len(jobs) != all {
			t.Fatalf("%s: %d entries, %d mails", what, len(entries), len(jobs))
		}
		if e, j := entries[all-1], jobs[all-1]; e.Field("children_left") != left || j.IDs["left"] != left || e.Field("ended") != "" || e.Outcome != audit.Denied {
			t.Errorf("%s: the entry is %+v, the mail %+v", what, e, j)
		}
	}
	must(t, f.room.Leaked(t.Context(), nobody(id), l.key.ID, Leak{Where: "there", Via: "request"}))
	told("a leak in a request", "6", 1)
	alerted(l.key)
	told("an alert", "6", 2)
	if got := f.revoked(t, owner, append(l.fromKey(), l.key.ID)...); !slices.Equal(got, []string{l.key.ID}) {
		t.Errorf("an alert ended %v", got)
	}
	f.as(t, l.late)
	must(t, second(f.room.End(t.Context(), owner, l.key.ID, true)))
	alerted(l.old)
	told("an old generation, of which all has ended", "", 3)
}

// TestNoKeyDecidesAboutItsMaker: nor about who made that, or another generation of them, whether or not anything is counted.
func TestNoKeyDecidesAboutItsMaker(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	l := f.line(t, owner)
	grand := f.make(t, f.as(t, l.late), NewKey{Kind: Service, Scopes: maker})
	for what, pair := range map[string][2]Created{
		"its maker": {l.late, l.key}, "its maker's old generation": {l.late, l.old}, "its maker's new generation": {l.early, l.key},
		"its maker's maker": {grand, l.key}, "a successor's maker": {l.successor, l.old},
	} {
		by := f.as(t, pair[0])
		for _, stopped := range []bool{false, true} {
			if stopped {
				must(t, second(f.room.Disable(t.Context(), owner, pair[1].ID)))
			}
			for verb, do := range map[string]func(string) error{
				"enable": func(k string) error { return second(f.room.Enable(t.Context(), by, k)) }, "disable": func(k string) error { return second(f.room.Disable(t.Context(), by, k)) },
				"change":     func(k string) error { return second(f.room.Update(t.Context(), by, k, "", Change{Name: new("x")})) },
				"rotate":     func(k string) error { return second(f.room.Rotate(t.Context(), by, k, 0)) },
				"revoke":     func(k string) error { return second(f.room.Revoke(t.Context(), by, k)) },
				"revoke all": func(k string) error { return second(f.room.End(t.Context(), by, k, true)) },
			} {
				want(t, do(pair[1].ID), problem.Denied, verb+" "+what)
			}
		}
		must(t, second(f.room.Enable(t.Context(), owner, pair[1].ID)))
	}
	for _, k := range []Created{l.old, l.key} {
		for _, by := range []Created{l.old, l.key} {
			if by.ID == k.ID {
				continue
			}
			want(t, second(f.room.Rotate(t.Context(), f.as(t, by), k.ID, 0)), problem.Denied, "rotate another generation")
			want(t, second(f.room.Disable(t.Context(), f.as(t, by), k.ID)), problem.Denied, "disable another generation")
		}
	}
}

// TestSecondOwnerKeyTakesTheFirstOnesPlace: it may do as much, unless something narrows or meters it.
func TestSecondOwnerKeyTakesTheFirstOnesPlace(t *testing.T) {
	t.Parallel()
	f := open(t)
	for what, n := range map[string]NewKey{
		"uses": {MaxUses: new(int64(9))}, "rates": {RateLimits: []RateLimit{{"r", 9, 60}}},
		"addresses": {AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "scopes": {Scopes: maker}, "nothing": {},
	} {
		_, owner := f.owner(t, "Acme "+what)
		n.Kind = Owner
		made := f.make(t, owner, n)
		by, err := f.room.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{Address: netip.MustParseAddr("192.0.2.1")})
		must(t, err)
		err = second(f.room.Revoke(t.Context(), by, owner.Actor().ID))
		if what != "nothing" {
			want(t, err, problem.Denied, "narrowed by "+what)
			continue
		}
		must(t, err)
		must(t, second(f.room.Create(t.Context(), by, NewKey{Name: "third", Kind: Owner})))
	}
}

// TestKeysEndWhatTheyMade: also what may do more by now than they may themselves, and their own last generation.
func TestKeysEndWhatTheyMade(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{Scopes: maker, MaxUses: new(int64(10))})
	child := f.make(t, f.as(t, k), NewKey{Kind: Service, Scopes: []string{"verify"}})
	wide := f.service(t, owner, NewKey{Scopes: []string{"verify"}})
	must(t, second(f.room.Update(t.Context(), owner, child.ID, "", Change{MaxUses: new(int64(1000))})))
	next, err := f.room.Rotate(t.Context(), owner, k.ID, time.Hour)
	must(t, err)
	want(t, second(f.room.Revoke(t.Context(), f.as(t, next), wide.ID)), problem.Denied, "end a key that may do more")
	want(t, second(f.room.Disable(t.Context(), f.as(t, next), child.ID)), problem.Denied, "stop a key that may do more")
	must(t, second(f.room.Revoke(t.Context(), f.as(t, next), child.ID)))
	must(t, second(f.room.Revoke(t.Context(), f.as(t, next), k.ID)))
	f.as(t, next)
}

// TestExpiryCutIsTold: who makes a key that lasts less long than it would without him is told so.
func TestExpiryCutIsTold(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	_, owner := f.owner(t, "Acme")
	end := now.Now().Add(time.Hour)
	short := f.as(t, f.make(t, owner, NewKey{Kind: Owner, ExpiresAt: end}))
	long := f.as(t, f.make(t, owner, NewKey{Kind: Owner, ExpiresAt: now.Now().Add(2 * DefaultLife)}))
	for what, tt := range map[string]struct {
		by  tenantdb.Caller
		at  time.Time
		cut bool
	}{
		"a key that ends soon":   {short, time.Time{}, true},
		"a key that ends later":  {long, time.Time{}, false},
		"a key that never ends":  {owner, time.Time{}, false},
		"as long as it may last": {short, end, false},
	} {
		made, err := f.room.Create(t.Context(), tt.by, NewKey{Name: "x", Kind: Service, ExpiresAt: tt.at})
		if err != nil || made.ExpiryCut != tt.cut || tt.cut && !made.ExpiresAt.Equal(end) {
			t.Errorf("made by %s: %+v, %v", what, made, err)
		}
		if !tt.at.IsZero() {
			continue
		}
		old := f.service(t, owner, NewKey{})
		next, err := f.room.Rotate(t.Context(), tt.by, old.ID, 0)
		if err != nil || next.ExpiryCut != tt.cut || tt.cut && !next.ExpiresAt.Equal(end) {
			t.Errorf("rotated by %s: %+v, %v", what, next, err)
		}
		done, err := f.room.Import(t.Context(), tt.by, []Foreign{foreign("a key from elsewhere, by "+what, NewKey{})})
		if err != nil || done[0].ExpiryCut != tt.cut || tt.cut && !done[0].ExpiresAt.Equal(end) || done[0].ExpiresAt.IsZero() {
			t.Errorf("imported by %s: %+v, %v", what, done, err)
		}
	}
}

// TestLineageRoutes: the same on the wire.
func TestLineageRoutes(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	root, err := Parse(c.key)
	must(t, err)
	made := c.do("POST", "", map[string]any{"name": "maker", "kind": "service", "scopes": maker, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339)})
	id := made.Body["key_id"].(string)
	if made.Body["made_by"] != root.ID || made.Body["expiry_cut"] != false {
		t.Errorf("made by an owner key: %+v", made)
	}
	by := client{t, c.api, made.Body["key"].(string)}
	child := by.do("POST", "", `{"name":"child","kind":"service","scopes":["verify"]}`)
	if child.Body["made_by"] != id || child.Body["expiry_cut"] != true || child.Body["expires_at"] != made.Body["expires_at"] {
		t.Errorf("its child: %+v", child)
	}
	next := by.do("POST", "/"+child.Body["key_id"].(string)+"/rotate", `{"overlap_seconds":60}`)
	if next.Body["made_by"] != id || next.Body["expiry_cut"] != true {
		t.Errorf("its child's successor: %+v", next)
	}
	imported := by.do("POST", "/import", `{"keys":[{"hash":"`+strings.Repeat("ab", 32)+`","name":"x"}]}`).Body["keys"].([]any)[0].(map[string]any)
	if imported["expires_at"] != made.Body["expires_at"] || imported["expiry_cut"] != true {
		t.Errorf("what it imports: %+v", imported)
	}
	again := by.do("POST", "/import", `{"keys":[{"hash":"`+strings.Repeat("ab", 32)+`","name":"x"}]}`).Body["keys"].([]any)[0].(map[string]any)
	if again["status"] != "there" || again["expires_at"] != made.Body["expires_at"] || again["expiry_cut"] != false {
		t.Errorf("what was there: %+v", again)
	}
	if list := c.do("GET", "?made_by="+id, nil); len(list.Body["keys"].([]any)) != 3 || strings.Contains(list.Raw, `"maker"`) {
		t.Errorf("what it made: %+v", list)
	}
	if list := c.do("GET", "?made_by="+root.ID, nil); len(list.Body["keys"].([]any)) != 1 {
		t.Errorf("what the owner key made: %+v", list)
	}
	for _, wrong := range []string{`{"children":"yes"}`, `{"only_this":true}`} {
		if a := c.do("POST", "/"+id+"/revoke", wrong); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", wrong, a)
		}
	}
	for _, body := range []any{nil, `{}`, `{"children":false}`} {
		if a := c.do("POST", "/"+id+"/revoke", body); a.Status != http.StatusOK || a.Body["status"] != "revoked" || a.Body["children_revoked"] != 0.0 || a.Body["children_left"] != 3.0 {
			t.Errorf("it alone: %+v", a)
		}
	}
	if a := c.do("POST", "/"+id+"/revoke", `{"children":true}`); a.Status != http.StatusOK || a.Body["children_revoked"] != 3.0 || a.Body["children_left"] != 0.0 || a.Body["key_id"] != id || a.Header.Get("ETag") != `"2"` {
		t.Errorf("with what came from it: %+v", a)
	}
}
