package apikey

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// scopesOf are so many scopes, of so many bytes in all, with what stands between them.
func scopesOf(n, bytes int) []string {
	list := make([]string, n)
	for i := range list {
		size := (bytes - (n - 1)) / n
		if i < (bytes-(n-1))%n { // what is left over
			size++
		}
		list[i] = fmt.Sprintf("s%03d:", i) + strings.Repeat("x", size-5)
	}
	return list
}

// TestTextsAreBounded: the texts of a key find room in the entries about it, or are refused with the place of the longest: when it
// is made, taken over or changed, and with what it takes over from its maker.
func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	fits := NewKey{Name: "x", Kind: Data, Scopes: scopesOf(64, mostTexts-1-1000), GivenTo: strings.Repeat("a", 200), Metadata: map[string]any{"a": strings.Repeat("b", 792)}}
	over := fits
	over.Name = "xx"
	placed := func(err error, place, what string) {
		t.Helper()
		want(t, err, problem.Invalid, what)
		if p := problem.Of(err); len(p.Fields) != 1 || p.Fields[0].Location != place {
			t.Errorf("%s: %+v", what, p.Fields)
		}
	}
	made, err := f.room.Create(t.Context(), owner, fits)
	must(t, err)
	must(t, second(f.room.Import(t.Context(), owner, []Foreign{foreign("one that fits", fits)})))
	placed(second(f.room.Create(t.Context(), owner, over)), "body.scopes", "made with a byte more")
	placed(second(f.room.Import(t.Context(), owner, []Foreign{foreign("a", NewKey{}), foreign("b", over)})), "body.keys[1].scopes", "taken over with a byte more")
	placed(second(f.room.Update(t.Context(), owner, made.ID, "", Change{Name: new("xx")})), "body.scopes", "changed to a byte more")
	must(t, second(f.room.Update(t.Context(), owner, made.ID, "", Change{Name: new("y")})))
	placed(second(f.room.Create(t.Context(), owner, NewKey{Name: "x", Kind: Service, Resources: strings.Fields(strings.Repeat(strings.Repeat("<", 100)+" ", 21))})), "body.resources", "longer as JSON")

	// The most that a key can take over, and the most of its own.
	maker := NewKey{Name: "maker", Scopes: maker, GivenTo: strings.Repeat("\U0001F511", 200)}
	for i := range 50 {
		n := strings.Repeat("ffff:", 7) + fmt.Sprintf("%x/128", 0xff00+i)
		prefixes, err := parseCIDRs([]string{n})
		must(t, err)
		maker.AllowedCIDRs = append(maker.AllowedCIDRs, prefixes...)
	}
	k := f.service(t, owner, maker)
	by, err := f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{CallerRequestID: strings.Repeat("r", 64), Address: maker.AllowedCIDRs[0].Addr()})
	must(t, err)
	child := NewKey{Name: "x", Kind: Service, Scopes: []string{"verify"}, Resources: scopesOf(48, mostTexts-1-2-48*2)}
	if got, err := f.room.Create(t.Context(), by, child); err != nil || len(got.AllowedCIDRs) != 50 || got.GivenTo != maker.GivenTo {
		t.Errorf("a child with all that it may have: %v", err)
	}
}

// crammed is a key of which an entry has room for not one byte more, as an earlier version let people make.
func (f fixture) crammed(t *testing.T, by tenantdb.Caller) (made Created) {
	t.Helper()
	k := Key{Kind: Data, Live: true, Name: "x", Version: 1}
	for size := audit.MaxPrivate; ; size-- {
		k.Scopes = scopesOf(70, size)
		if _, _, err := audit.Conceal(k.event("key.created", false).Private); err == nil {
			break
		}
	}
	must(t, f.room.cfg.DB.Change(t.Context(), by, func(tx *tenantdb.Tx) (_ audit.Event, err error) {
		if k.CreatedAt, err = f.room.next(t.Context(), &tx.ReadTx); err == nil {
			made, err = f.room.make(t.Context(), tx, k)
		}
		return made.event("key.created", false), err
	}))
	return made
}

// TestNothingKeepsAKeyFromItsEnd: neither all that a key can hold nor what a client calls its requests keeps it from being ended, in
// any way; nor from being changed, but to something longer.
func TestNothingKeepsAKeyFromItsEnd(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, _ := f.owner(t, "Acme")
	root, err := f.room.Create(t.Context(), tenantdb.System(id, "test"), NewKey{Name: "second root", Kind: Owner, NeverExpires: true})
	must(t, err)
	for _, name := range []string{"", strings.Repeat("r", 64)} {
		by, err := f.room.Authenticate(t.Context(), root.Secret.Expose(), web.RequestMeta{CallerRequestID: name})
		must(t, err)
		for what, end := range map[string]func(ctx context.Context, id string) error{
			"revoke":  func(ctx context.Context, id string) error { return second(f.room.Revoke(ctx, by, id)) },
			"all":     func(ctx context.Context, id string) error { return second(f.room.End(ctx, by, id, true)) },
			"disable": func(ctx context.Context, id string) error { return second(f.room.Disable(ctx, by, id)) },
			"enable": func(ctx context.Context, id string) error {
				must(t, second(f.room.Disable(ctx, by, id)))
				return second(f.room.Enable(ctx, by, id))
			},
			"rotate":  func(ctx context.Context, id string) error { return second(f.room.Rotate(ctx, by, id, 0)) },
			"overlap": func(ctx context.Context, id string) error { return second(f.room.Rotate(ctx, by, id, time.Hour)) },
			"leak": func(ctx context.Context, id string) error {
				return f.room.Leaked(ctx, by, id, Leak{Where: "there", Via: "github", URL: "https://github.example/" + strings.Repeat("u", 2000), Revoke: true})
			},
			"rename": func(ctx context.Context, id string) error {
				return second(f.room.Update(ctx, by, id, "", Change{Name: new("y")}))
			},
			"shorten": func(ctx context.Context, id string) error {
				return second(f.room.Update(ctx, by, id, "", Change{Metadata: &map[string]any{}}))
			},
		} {
			k := f.crammed(t, by)
			if err := end(t.Context(), k.ID); err != nil {
				t.Errorf("%s, of a request with a name of %d letters: %v", what, len(name), err)
			}
		}
		must(t, second(f.room.PutOwner(t.Context(), by, "", KeyOwner{Owner: "a", Metadata: map[string]any{"a": strings.Repeat("b", 4000)}})))
		must(t, second(f.room.DeleteOwner(t.Context(), by, "a")))
	}
}

// TestOwnersAreNamedInAddresses: every owner that a key may be given to can be given limits, whatever the name; what no address can
// name is refused where a key is made.
func TestOwnersAreNamedInAddresses(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	secret, _ := mint(Data, true)
	for name, status := range map[string]int{
		"https://idp.example/u/17": http.StatusCreated, "auth0|5f7c8ec7": http.StatusCreated, "a/": http.StatusCreated, "//": http.StatusCreated,
		"100%2F": http.StatusCreated, "a?b=c#d": http.StatusCreated, " ": http.StatusCreated, "界": http.StatusCreated, "...": http.StatusCreated,
		".": http.StatusBadRequest, "..": http.StatusBadRequest, "a/../b": http.StatusBadRequest, "/": http.StatusBadRequest, secret.Expose(): http.StatusBadRequest,
	} {
		a := c.do("POST", "", map[string]any{"name": "k", "kind": "data", "owner": name})
		imported := c.do("POST", "/import", map[string]any{"keys": []any{map[string]any{"hash": hashOf("imported" + name), "name": "k", "owner": name}}})
		if a.Status != status || imported.Status != status {
			t.Errorf("%q: %d and %d, want %d", name, a.Status, imported.Status, status)
		}
		if status == http.StatusBadRequest {
			if !strings.Contains(a.Raw, `"body.owner"`) || !strings.Contains(imported.Raw, `"body.keys[0].owner"`) {
				t.Errorf("%q: %s %s", name, a.Raw, imported.Raw)
			}
			continue
		}
		path := "/api/v1/key-owners/" + url.PathEscape(name)
		for _, q := range [][2]string{{"PUT", `{"max_keys":5}`}, {"GET", ""}, {"DELETE", ""}} {
			if a := c.at(q[0], path, q[1]); a.Status != http.StatusOK || a.Body["owner"] != name {
				t.Errorf("%s %s: %d %s", q[0], path, a.Status, a.Raw)
			}
		}
	}
}

// TestPagesOfLongOwners: the longest names lead from page to page.
func TestPagesOfLongOwners(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	want := map[string]bool{}
	for _, letter := range []string{"界", "<", "\U0001F511"} {
		name := strings.Repeat(letter, 200)
		if a := c.at("PUT", "/api/v1/key-owners/"+url.PathEscape(name), `{}`); a.Status != http.StatusOK {
			t.Fatal(a.Status, a.Raw)
		}
		want[name] = true
	}
	for cursor, more := "", true; more; {
		a := c.at("GET", "/api/v1/key-owners?limit=1"+cursor, "")
		if a.Status != http.StatusOK {
			t.Fatal(a.Status, a.Raw)
		}
		delete(want, a.Body["owners"].([]any)[0].(map[string]any)["owner"].(string))
		var next string
		next, more = a.Body["next_cursor"].(string)
		cursor = "&cursor=" + next
	}
	if len(want) != 0 {
		t.Errorf("%d were on no page", len(want))
	}
}

// TestOwnerThatIsNotThere: If-Match names a version, so nothing is made with it.
func TestOwnerThatIsNotThere(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	for _, match := range []string{"*", `"0"`, `"1"`} {
		if a := c.at("PUT", "/api/v1/key-owners/x", `{}`, "If-Match", match); a.Status != http.StatusPreconditionFailed {
			t.Errorf("%s: %d %s", match, a.Status, a.Raw)
		}
	}
	if a := c.at("GET", "/api/v1/key-owners/x", ""); a.Status != http.StatusNotFound {
		t.Errorf("it was made: %s", a.Raw)
	}
	c.at("PUT", "/api/v1/key-owners/x", `{}`)
	if a := c.at("PUT", "/api/v1/key-owners/x", `{"max_keys":1}`, "If-Match", "*"); a.Status != http.StatusOK {
		t.Errorf("one that is there: %d %s", a.Status, a.Raw)
	}
}
