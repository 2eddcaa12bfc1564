package vault

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("portable", "testdata", name))
	must(t, err)
	return b
}

// rows is how many items and grants there are.
func (h *house) rows(t testing.TB) string {
	t.Helper()
	return h.Text(t, `SELECT (SELECT count(*) FROM avouch.vault_item)::text || ' ' || (SELECT count(*) FROM avouch.vault_grant)::text`)
}

// TestImports: the file of each program is tried, which keeps nothing; is refused as long as a part of it cannot be read, with nothing
// kept; and what can be read is kept, once, with codes that are those of its seeds.
func TestImports(t *testing.T) {
	t.Parallel()
	for name, password := range map[string]string{
		"aegis.json": "", "aegis-encrypted.json": "correct horse", "2fas.json": "", "2fas-encrypted.json": "correct horse", "bitwarden.json": "", "bitwarden-argon2.json": "correct horse", "table.csv": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			in := Import{Data: file(t, name), Password: secret.Text(password), Folder: "imported", DryRun: true}
			tried, err := h.Import(t.Context(), h.boss, in)
			must(t, err)
			if e := h.Last(t, h.acme); e.Type != "vault.import_tried" || h.rows(t) != "0 0" || len(tried.Items) == 0 || e.Field("faults") != fmt.Sprint(len(tried.Faults)) {
				t.Errorf("tried: %s, %s", e.Body, h.rows(t))
			}
			in.DryRun = false
			if len(tried.Faults) > 0 {
				before := len(h.Entries(t, h.acme))
				_, err := h.Import(t.Context(), h.boss, in)
				refused(t, "with faults", err, problem.Invalid, "so nothing was imported")
				if p := problem.Of(err); len(p.Fields) != len(tried.Faults) || h.rows(t) != "0 0" || len(h.Entries(t, h.acme)) != before {
					t.Errorf("%+v", p)
				}
				return
			}
			done, err := h.Import(t.Context(), h.boss, in)
			must(t, err)
			anew := 0
			for _, i := range done.Items {
				if i.Duplicate {
					continue
				}
				anew++
				if i.Kind.gives() {
					h.fetchAs(t, h.boss, i.Item)
				}
			}
			if h.given(t, "vault.item_added") != anew || h.rows(t) != fmt.Sprint(anew, " ", anew) {
				t.Errorf("%d are new, and there are %s", anew, h.rows(t))
			}
			again, err := h.Import(t.Context(), h.boss, in)
			must(t, err)
			for _, i := range again.Items {
				if !i.Duplicate || i.Item != (ID{}) {
					t.Errorf("%s is kept again", i.Name)
				}
			}
			if h.given(t, "vault.item_added") != anew {
				t.Error("duplicates are in the log as added")
			}
		})
	}
}

// TestImportOfAddressesAndPictures: addresses, and a picture of one.
func TestImportOfAddressesAndPictures(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	uri := "otpauth://totp/ACME:ada?secret=" + base32.StdEncoding.EncodeToString(rfcKey) + "&digits=8&issuer=ACME"
	code, err := qr.Encode(uri, qr.M, qr.Auto)
	must(t, err)
	scaled, err := barcode.Scale(code, 300, 300)
	must(t, err)
	var picture bytes.Buffer
	must(t, png.Encode(&picture, scaled))
	out, err := h.Import(t.Context(), h.boss, Import{Data: picture.Bytes()})
	must(t, err)
	if out.Format != portable.FormatQR || len(out.Items) != 1 || out.Items[0].Kind != TOTP {
		t.Fatalf("%+v", out)
	}
	now := otp.Scheme{Algorithm: otp.SHA1, Digits: 8, Period: 30}
	if c := h.fetchAs(t, h.boss, out.Items[0].Item); c.Code != now.Code(rfcKey, uint64(now.Step(h.clock.at()))) {
		t.Errorf("its code is %s", c.Code)
	}
	out, err = h.Import(t.Context(), h.boss, Import{Data: []byte(uri + "\n" + strings.Replace(uri, "GEZ", "MEZ", 1) + "\n" + strings.Replace(uri, "GEZ", "MEZ", 1))})
	must(t, err)
	if !out.Items[0].Duplicate || out.Items[1].Duplicate || !out.Items[2].Duplicate {
		t.Errorf("duplicates: %+v", out.Items)
	}
	for k, other := range []string{strings.Replace(uri, "digits=8", "digits=6", 1), uri + "&algorithm=SHA256", uri + "&period=60", strings.Replace(uri, "totp", "hotp", 1)} {
		out, err := h.Import(t.Context(), h.boss, Import{Data: []byte(other)})
		must(t, err)
		if out.Items[0].Duplicate {
			t.Errorf("%d: a seed of other codes is a duplicate", k)
		}
	}
	if out, err = h.Import(t.Context(), h.boss, Import{Data: []byte(strings.Replace(uri, "totp", "hotp", 1) + "&counter=9")}); err != nil || !out.Items[0].Duplicate {
		t.Errorf("a counter that moved: %+v, %v", out.Items, err)
	}
}

// TestImportOfBatches: the pictures of one export are read together, each in a turn of its own, and kept once; or nothing is.
func TestImportOfBatches(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var files [][]byte
	for _, text := range strings.Fields(string(file(t, "migration.txt"))) {
		code, err := qr.Encode(text, qr.M, qr.Auto)
		must(t, err)
		scaled, err := barcode.Scale(code, 400, 400)
		must(t, err)
		var picture bytes.Buffer
		must(t, png.Encode(&picture, scaled))
		files = append(files, picture.Bytes())
	}
	turns := 0
	free := h.gate.freed
	h.gate.freed = func() { turns++; free() }
	_, err := h.Import(t.Context(), h.boss, Import{Data: files[1]})
	refused(t, "one of two", err, problem.Invalid, "cannot be read, so nothing was imported")
	if p := problem.Of(err); len(p.Fields) != 1 || !strings.Contains(p.Fields[0].Message, "missing: 1") {
		t.Errorf("%+v", p)
	}
	_, err = h.Import(t.Context(), h.boss, Import{Data: files[1], More: [][]byte{files[0], files[1]}})
	refused(t, "one twice", err, problem.Invalid, "")
	if p := problem.Of(err); len(p.Fields) != 1 || p.Fields[0].Location != "file 3, code 1" || h.rows(t) != "0 0" {
		t.Errorf("%+v, %s", p, h.rows(t))
	}
	for name, other := range map[string]string{"a table": "secret,name\nJBSWY3DPEHPK3PXP,A", "nothing known": "JBSWY3DPEHPK3PXP"} {
		_, err = h.Import(t.Context(), h.boss, Import{Data: files[0], More: [][]byte{[]byte(other)}})
		if refused(t, name, err, problem.Invalid, "file 2"); strings.Contains(err.Error(), "JBSW") {
			t.Errorf("%v", err)
		}
	}
	out, err := h.Import(t.Context(), h.boss, Import{Data: files[1], More: [][]byte{files[0]}})
	must(t, err)
	if out.Format != portable.FormatQR || len(out.Items) != 2 || out.Items[0].Name != "Moved: bob" || out.Items[1].Name != "Moved: ada" || h.rows(t) != "2 2" {
		t.Errorf("%+v, %s", out, h.rows(t))
	}
	h.gate.slot <- struct{}{} // after the last turn
	if turns != 8 {
		t.Errorf("%d turns", turns)
	}
}

// TestImportChecks: what could not be kept is told in a dry run, by its place; no text holds a name or a seed; what others have is no
// duplicate, so that nobody finds out by guessing.
func TestImportChecks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	data := []byte("otpauth://totp/fine?secret=JBSWY3DPEHPK3PXP\notpauth://totp/Nobody's?secret=MFRGGZDFMZTWQ2LK\n")
	in := Import{Data: data, Folder: strings.Repeat("x", 201), DryRun: true}
	out, err := h.Import(t.Context(), h.boss, in)
	must(t, err)
	in.DryRun = false
	_, bad := h.Import(t.Context(), h.boss, in)
	refused(t, "a folder of 201 characters", bad, problem.Invalid, "2 parts cannot be read, so nothing was imported")
	said := fmt.Sprintf("%+v %+v", out.Faults, problem.Of(bad))
	if len(out.Faults) != 2 || !strings.Contains(said, "entry 2") || !strings.Contains(said, "folder must have 0 to 200 characters") || h.rows(t) != "0 0" {
		t.Errorf("%s, %s", said, h.rows(t))
	}
	for _, junk := range []string{"otpauth://totp/Nobody's business?secret=MFRGGZDFMZTWQ2LK!!!", `{"encrypted": false, "items": [{"name": "Nobody's business", "login": {"totp": "MFRGGZDFMZTWQ2LK1!"}}]}`, "MFRGGZDFMZTWQ2LK"} {
		_, err := h.Import(t.Context(), h.boss, Import{Data: []byte(junk)})
		said += fmt.Sprintf(" %v %+v", err, problem.Of(err))
	}
	if strings.Contains(said, "MFRGGZ") {
		t.Errorf("a text holds a seed: %s", said)
	}
	for text, says := range map[string]string{"MFRGGZDFMZTWQ2LK": "one of uri, qr, aegis, 2fas, bitwarden, csv, avouch and age, name its format", `{"encrypted": true, "encKeyValidation_DO_NOT_EDIT": "2.a|b|c", "folders": [], "items": []}`: "for the account that it comes from"} {
		_, err := h.Import(t.Context(), h.boss, Import{Data: []byte(text)})
		refused(t, text, err, problem.Invalid, says)
	}
	_, err = h.Import(t.Context(), h.boss, Import{Data: file(t, "bitwarden-pbkdf2.json")})
	refused(t, "no password", err, problem.Invalid, "cannot be read as bitwarden")
	if p := problem.Of(err); len(p.Fields) != 1 || p.Fields[0] != (problem.Field{Location: "body.password", Message: "it is encrypted, and no password was given"}) {
		t.Errorf("%+v", p)
	}
	_, err = h.Import(t.Context(), h.boss, Import{Data: file(t, "aegis-encrypted.json"), Password: secret.Text("another")})
	if p := problem.Of(err); p == nil || len(p.Fields) != 1 || p.Fields[0].Location != "body.password" || !strings.HasPrefix(p.Fields[0].Message, "the password does not open it") {
		t.Errorf("another password: %v", err)
	}
	_, err = h.Import(t.Context(), h.boss, Import{Data: file(t, "aegis-encrypted.json"), Password: secret.Text("correct horse")})
	refused(t, "a fault in what is encrypted", err, problem.Invalid, "Put it right in the program that wrote the file, or take it out there, and export it again.")
	_, err = h.Import(t.Context(), h.boss, Import{Data: file(t, "aegis.json")})
	refused(t, "a fault in clear", err, problem.Invalid, "Put it right, or take it out.")
	_, err = h.Import(t.Context(), h.boss, Import{Data: bytes.Repeat([]byte("x"), portable.MostBytes+1)})
	refused(t, "too long a file", err, problem.Invalid, "It has more than 10 MiB")
	h.put(t, seedOf(Secret))
	guess := Import{Format: portable.FormatAvouch, DryRun: true, Data: []byte(`{"format": "avouch-vault/1", "entries": [{"kind": "secret", "name": "x", "text": "sk_live_7f3a9c52e1d8b604"}]}`)}
	out, err = h.Import(t.Context(), h.boss, guess)
	must(t, err)
	other, err := h.Import(t.Context(), h.person(t, "vault:read", "vault:write").caller(), guess)
	must(t, err)
	if !out.Items[0].Duplicate || other.Items[0].Duplicate {
		t.Errorf("its owner sees %+v, a stranger %+v", out.Items, other.Items)
	}
}

// TestLongImport: five thousand entries are kept in one transaction.
func TestLongImport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var data bytes.Buffer
	for n := range 5000 {
		fmt.Fprintf(&data, "otpauth://totp/acme:%d?secret=%s\n", n, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(fmt.Appendf(nil, "the key of number %d", n)))
	}
	begin := time.Now()
	out, err := h.Import(t.Context(), h.boss, Import{Data: data.Bytes()})
	must(t, err)
	t.Logf("%v", time.Since(begin))
	if len(out.Items) != 5000 || h.rows(t) != "5000 5000" || h.given(t, "vault.item_added") != 5000 {
		t.Errorf("%d items, %s rows", len(out.Items), h.rows(t))
	}
	h.fetchAs(t, h.boss, out.Items[4999].Item)
	must(t, h.Check(t.Context(), h.boss))
	if a := h.alarms(t, h.acme); a != "" {
		t.Errorf("a check finds %s", a)
	}
}

// TestExport: only a person, proved a moment ago, with the level seed on each item, with a reason; each item is in the log, and every owner
// is mailed, or nothing is written.
func TestExport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	p := h.member(t)
	var items []ID
	for _, k := range []Kind{TOTP, HOTP, Steam, Codes, Secret} {
		i := h.put(t, seedOf(k))
		h.grant(t, i.ID, p.actor(), ForSeed)
		items = append(items, i.ID)
	}
	only := h.put(t, seedOf(TOTP))
	h.grant(t, only.ID, p.actor(), ForCode)
	clearly := portable.Protection{Clear: true}
	stale := *p
	stale.proved = tenantdb.FreshProof + time.Second
	future := *p
	future.proved = -tenantdb.FreshProof - time.Second
	before := len(h.Entries(t, h.acme))
	for says, c := range map[string]struct {
		by   *someone
		in   Export
		kind problem.Kind
		text string
	}{
		"an old proof": {&stale, Export{items, portable.FormatAvouch, clearly, "r"}, problem.Denied, "Prove yourself again"}, "a proof of the future": {&future, Export{items, portable.FormatAvouch, clearly, "r"}, problem.Denied, "Prove yourself again"},
		"no reason": {p, Export{items, portable.FormatAvouch, clearly, ""}, problem.Invalid, ""}, "no items": {p, Export{nil, portable.FormatAvouch, clearly, "r"}, problem.Invalid, ""},
		"in clear without saying so": {p, Export{items, portable.FormatAvouch, portable.Protection{}, "r"}, problem.Invalid, ""}, "a short passphrase": {p, Export{items, portable.FormatAvouch, portable.Protection{Passphrase: secret.Text("short")}, "r"}, problem.Invalid, ""},
		"one that is granted for codes": {p, Export{append(items[:1:1], only.ID), portable.FormatAvouch, clearly, "r"}, problem.Denied, "and not have its seed"},
		"another's":                     {h.member(t), Export{items, portable.FormatAvouch, clearly, "r"}, problem.Denied, "has not been granted"},
		"a format that is none":         {p, Export{items, "xml", clearly, "r"}, problem.Invalid, ""},
	} {
		data, _, err := h.Export(ctx, c.by.caller(), c.in)
		if refused(t, says, err, c.kind, c.text); data != nil {
			t.Errorf("%s: %d bytes", says, len(data))
		}
	}
	if _, _, err := h.Export(ctx, h.key(t, p, "vault:code"), Export{items, portable.FormatAvouch, clearly, "r"}); !problem.Is(err, problem.Denied) {
		t.Errorf("a key exports: %v", err)
	}
	before++ // the key's making
	if n := len(h.Entries(t, h.acme)); n != before+1 {
		t.Errorf("%d entries of what was refused", n-before-1) // and the other member's
	}
	h.policy(t, items[0], Policy{Approval: true})
	_, _, err := h.Export(ctx, p.caller(), Export{items, portable.FormatAvouch, clearly, "r"})
	refused(t, "not approved", err, problem.Denied, "second person must approve that this item's seed is taken out")
	h.lend(t, p.caller(), items[0], ForSeed, time.Hour)
	data, held, err := h.Export(ctx, p.caller(), Export{items, portable.FormatAvouch, clearly, "A new phone"})
	must(t, err)
	seed := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(rfcKey)
	if !slices.Equal(held, items) || strings.Count(string(data), seed) != 3 || !bytes.Contains(data, []byte("alpha-1")) || !bytes.Contains(data, []byte("sk_live_")) {
		t.Errorf("%s, %v", data, held)
	}
	found := h.OfType(t, h.acme, exported)
	for k, e := range found {
		if e.Target.ID != items[k].String() || e.Private["reason"] != "A new phone" || e.Field("protection") != "clear" || strings.Contains(string(e.Body), "phone") {
			t.Errorf("the log says %s", e.Body)
		}
	}
	mails := h.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_exported'`)
	if len(found) != len(items) || mails != "2" {
		t.Errorf("%d entries, %s mails", len(found), mails)
	}
	who, err := age.GenerateX25519Identity()
	must(t, err)
	data, _, err = h.Export(ctx, p.caller(), Export{items, portable.FormatAvouch, portable.Protection{Recipients: []string{who.Recipient().String()}}, "r"})
	must(t, err)
	if bytes.Contains(data, []byte(seed)) || !bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		t.Errorf("%.40s", data)
	}
}

// TestExportIsWhole: what the log, the mail and the answer say to be taken out is what is written: an item that is named twice once, and
// where the format cannot hold one nothing, each of those by its name, with nothing in the log.
func TestExportIsWhole(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.member(t)
	var items []ID
	for _, k := range []Kind{TOTP, Codes, Secret, HOTP} {
		i := h.put(t, seedOf(k))
		h.grant(t, i.ID, p.actor(), ForSeed)
		items = append(items, i.ID)
	}
	clearly := portable.Protection{Clear: true}
	for _, f := range []portable.Format{portable.FormatURI, portable.FormatCSV} {
		data, held, err := h.Export(t.Context(), p.caller(), Export{append(items[:1:1], items...), f, clearly, "r"})
		refused(t, string(f), err, problem.Invalid, "The format cannot hold all of these items, so nothing was exported.")
		want := []problem.Field{
			{Location: "body.items[2]", Message: "Recovery: the format " + string(f) + " has no entries of the kind codes"}, {Location: "body.items[3]", Message: "Token: the format " + string(f) + " has no entries of the kind secret"},
		}
		if got := problem.Of(err).Fields; !slices.Equal(got, want) || data != nil || held != nil {
			t.Errorf("%s: %+v, %s", f, got, data)
		}
	}
	mails := func() string {
		return h.Text(t, `SELECT coalesce(string_agg(DISTINCT args->'ids'->>'items', ' '), '') FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_exported'`)
	}
	if h.given(t, exported) != 0 || mails() != "" {
		t.Errorf("%d in the log, mails of %s", h.given(t, exported), mails())
	}
	data, held, err := h.Export(t.Context(), p.caller(), Export{[]ID{items[3], items[0], items[3]}, portable.FormatURI, clearly, "r"})
	must(t, err)
	if bytes.Count(data, []byte("otpauth://")) != 2 || !slices.Equal(held, []ID{items[3], items[0]}) || h.given(t, exported) != 2 || mails() != "2" {
		t.Errorf("%s: %v, %d in the log, mails of %s", data, held, h.given(t, exported), mails())
	}
}

// TestExportIsDurable: while the log cannot be written, nothing is written for the client.
func TestExportIsDurable(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP))
	p := h.member(t)
	h.grant(t, i.ID, p.actor(), ForSeed)
	let := h.hold(t)
	ctx, cancel := bounded(t)
	data, _, err := h.Export(ctx, p.caller(), Export{[]ID{i.ID}, portable.FormatURI, portable.Protection{Clear: true}, "r"})
	cancel()
	let()
	if err == nil || data != nil || h.given(t, exported) != 0 {
		t.Errorf("%q, %v", data, err)
	}
}

// TestExportLosesToChanges: what is taken away, or replaced, after an export was decided and before it is in the log, leaves nothing.
func TestExportLosesToChanges(t *testing.T) {
	t.Parallel()
	for says, c := range map[string]struct {
		meanwhile func(h *house, i ID, g Grant) error
		kind      problem.Kind
		text      string
	}{
		"revoked": {func(h *house, i ID, g Grant) error {
			_, err := h.Revoke(t.Context(), h.boss, i, g.ID)
			return err
		}, problem.Denied, "has not been granted"},
		"replaced": {func(h *house, i ID, _ Grant) error {
			_, err := h.Replace(t.Context(), h.boss, i, "", content{Key: []byte("another key of twenty"), Algorithm: "SHA1", Digits: 6, Period: 30}, 0)
			return err
		}, problem.Conflict, "An item changed meanwhile"},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			i, p := h.put(t, seedOf(TOTP)).ID, h.member(t)
			g := h.grant(t, i, p.actor(), ForSeed)
			other, looks := h.server(t, h.Another(t)), 0
			other.cfg.Now = func() time.Time {
				if looks++; looks == 2 { // it was read, and is about to be judged by that; the first is of the proof
					must(t, c.meanwhile(h, i, g))
				}
				return h.clock.at()
			}
			data, _, err := other.Export(t.Context(), p.caller(), Export{[]ID{i}, portable.FormatURI, portable.Protection{Clear: true}, "r"})
			refused(t, says, err, c.kind, c.text)
			if data != nil || looks < 3 || h.given(t, exported) != 0 {
				t.Errorf("%d looks, %q", looks, data)
			}
		})
	}
}
