package verify

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/apikey"
)

// dump is what a thief of the database has: each value in it, as bytes.
type dump map[string]bool

func (h *house) dump(t *testing.T) dump {
	t.Helper()
	d := dump{}
	tables := h.Text(t, `SELECT string_agg(format('%I.%I', table_schema, table_name), ' ') FROM information_schema.tables
		WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`)
	for table := range strings.FieldsSeq(tables) {
		var rows any
		must(t, json.Unmarshal([]byte(h.Text(t, `SELECT coalesce(json_agg(to_jsonb(t)), '[]')::text FROM `+table+` t`)), &rows))
		d.add(rows)
	}
	return d
}

// add adds the values of what was JSON, also of JSON in texts and in bytes.
func (d dump) add(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, one := range v {
			d[name] = true
			d.add(one)
		}
	case []any:
		for _, one := range v {
			d.add(one)
		}
	case string:
		if b, err := hex.DecodeString(strings.TrimPrefix(v, `\x`)); err == nil && strings.HasPrefix(v, `\x`) {
			v = string(b)
		}
		d[v] = true
		var inner any
		if strings.HasPrefix(v, "{") && json.Unmarshal([]byte(v), &inner) == nil {
			d.add(inner)
		}
	case nil:
	default:
		d[fmt.Sprint(v)] = true
	}
}

// windows are all the pieces of eight and of sixteen bytes that the values have.
func (d dump) windows() map[string]bool {
	out := map[string]bool{}
	for v := range d {
		for i := range v {
			for _, size := range []int{8, 16} {
				if i+size <= len(v) {
					out[v[i:i+size]] = true
				}
			}
		}
	}
	return out
}

// forms are how the beginning of a hash may be written: eight bytes, or sixteen letters of what is usual.
func forms(sum []byte) []string {
	in32 := base32.StdEncoding.EncodeToString(sum)
	return []string{
		string(sum[:8]), hex.EncodeToString(sum)[:16], strings.ToUpper(hex.EncodeToString(sum))[:16],
		base64.StdEncoding.EncodeToString(sum)[:16], base64.URLEncoding.EncodeToString(sum)[:16], in32[:16], strings.ToLower(in32)[:16],
	}
}

// tests says how a guess can be tested with the dump: what of it is there that can be made from the guess, and from the values.
func (d dump) tests(guess string) (found []string) {
	there := d.windows()
	look := func(how string, sum []byte) {
		twice := sha256.Sum256(sum)
		for n, s := range [][]byte{sum, twice[:]} {
			for _, form := range forms(s) {
				if there[form] {
					found = append(found, fmt.Sprintf("%s, hashed %d times more", how, n))
				}
			}
		}
	}
	h0, h512 := sha256.Sum256([]byte(guess)), sha512.Sum512([]byte(guess))
	look("SHA-256", h0[:])
	look("SHA-512", h512[:])
	messages := map[string][]byte{"it": []byte(guess), "its SHA-256": h0[:], "its SHA-256 in hexadecimal": []byte(hex.EncodeToString(h0[:]))}
	for value := range d {
		for what, message := range messages {
			for name, sum := range map[string]func() hash.Hash{"HMAC-SHA-256": sha256.New, "HMAC-SHA-512": sha512.New} {
				m := hmac.New(sum, []byte(value))
				m.Write(message)
				look(fmt.Sprintf("%s of %s under %.40q", name, what, value), m.Sum(nil))
			}
			for how, salted := range map[string][]byte{"before": append([]byte(value), message...), "behind": append(bytes.Clone(message), value...)} {
				s := sha256.Sum256(salted)
				look(fmt.Sprintf("SHA-256 of %s with %.40q %s it", what, value, how), s[:])
			}
		}
	}
	return found
}

// TestDumpTestsNoGuess: whoever has the whole database, and neither the platform key nor the key store, cannot tell whether a text
// is a key that it knows, made here or imported, or one that was presented: nothing in it can be made from the text and what else
// is there, with the hashes that anybody would try. The search finds each of those where it is put there.
func TestDumpTestsNoGuess(t *testing.T) {
	t.Parallel()
	h := open(t)
	const weak, never, owner = "acme-2024-january", "acme-2024-february", "ada@example.com"
	for _, text := range []string{weak, never} { // also before it is a key
		h.ask(t, h.key, Request{Token: text})
		h.askKey(t, h.key, KeyRequest{Key: text})
	}
	_, err := h.keys.Import(t.Context(), h.service, []apikey.Foreign{{NewKey: apikey.NewKey{Name: "old", GivenTo: owner}, Hash: sha256.Sum256([]byte(weak))}})
	must(t, err)
	_, err = h.keys.PutOwner(t.Context(), h.service, "", apikey.KeyOwner{Owner: owner})
	must(t, err)
	key, id := h.data(t, apikey.NewKey{GivenTo: owner, MaxUses: number(10)})
	for text, left := range map[string]int64{weak: -1, key: 9} {
		h.code(t, h.side, KeyRequest{Key: text}, Valid, left)
		h.ask(t, h.key, Request{Token: text})
	}
	_, err = h.keys.Rotate(t.Context(), h.service, id, 0)
	must(t, err)
	h.code(t, h.side, KeyRequest{Key: key}, KeyRevoked, 9)
	d := h.dump(t)
	if !d["old"] || !d[id] || !d[owner] || len(d) < 200 {
		t.Fatalf("%d values: it is no dump", len(d))
	}
	for _, guess := range []string{weak, never, key, owner} {
		if found := d.tests(guess); len(found) > 0 {
			t.Errorf("%s can be tested: %s", guess, strings.Join(found[:min(5, len(found))], "; "))
		}
		if guess != owner && d[guess] {
			t.Errorf("%s is there", guess)
		}
	}
	h0 := sha256.Sum256([]byte(weak))
	m := hmac.New(sha512.New, []byte(id))
	m.Write(h0[:])
	salted := sha256.Sum256(append([]byte(id), weak...))
	for what, stored := range map[string]string{
		"SHA-256": string(h0[:]), "SHA-256 in hexadecimal": hex.EncodeToString(h0[:16]), "the half of it in base64, in something": "x:" + base64.StdEncoding.EncodeToString(h0[:16]),
		"an HMAC under a value": string(m.Sum(nil)), "it, salted with a value": hex.EncodeToString(salted[:]),
	} {
		with := dump{id: true, stored: true}
		if len(with.tests(weak)) == 0 || len(with.tests(never)) != 0 {
			t.Errorf("%s is not found where it is", what)
		}
	}
	h.Admin(t, `CREATE TABLE public.careless AS SELECT sha256($1::bytea) AS hash`, []byte(weak))
	if len(h.dump(t).tests(weak)) == 0 {
		t.Error("a plain SHA-256 in a table is not found")
	}
}
