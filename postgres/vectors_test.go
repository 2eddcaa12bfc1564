package postgres

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// base62 is the server's, written anew: big numbers, digits before capitals before small letters.
func base62(b []byte, size int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n, rest := new(big.Int).SetBytes(b), new(big.Int)
	out := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		n.DivMod(n, big.NewInt(62), rest)
		out[i] = digits[rest.Int64()]
	}
	return string(out)
}

func checksum(body string) string {
	return base62(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body))), 6)
}

// forge is a key of an id with a secret that nobody was given, and a checksum that is right.
func forge(t testing.TB, id string) string {
	t.Helper()
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		t.Fatal(err)
	}
	body := "avd_live_" + id + "_" + base62(secret[:], 43)
	return body + checksum(body)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "apikey", "testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Valid []struct{ ID, Secret, Key string }
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors.Valid) < 8 {
		t.Fatalf("%d vectors, %v", len(vectors.Valid), err)
	}
	each(t, func(t *testing.T, d *db) {
		for _, v := range vectors.Valid {
			got := d.ask("SELECT left($1, 9) || avouch_keys.base62(decode($2, 'hex'), 11) || '_' || avouch_keys.base62(decode($3, 'hex'), 43)", v.Key, v.ID, v.Secret)
			if got += d.ask("SELECT avouch_keys.checksum(convert_to($1, 'UTF8'))", got); got != v.Key {
				t.Errorf("got %s, want %s", got, v.Key)
			}
		}
		for range 50 {
			key, id := d.makeKeyAs("u"+base62([]byte{7}, 3), "'k'")
			if body := key[:64]; !strings.HasPrefix(body, "avd_live_"+id+"_") || key[64:] != checksum(body) {
				t.Fatalf("%s is no key of %s", key, id)
			}
		}
	})
}

// makeKeyAs makes a key without a connection of PostgREST's, as a user whom nobody counts.
func (d *db) makeKeyAs(user, arguments string) (key, id string) {
	d.t.Helper()
	got := d.ask("SELECT k.* FROM set_config('request.jwt.claims', json_build_object('sub', $1 || gen_random_uuid()::text)::text, false) AS c, avouch_keys.create_key("+arguments+") AS k", user)
	d.exec("RESET request.jwt.claims")
	key, id, _ = strings.Cut(got, "|")
	return key, id
}

// TestDigest computes from the secrets what the database has stored.
func TestDigest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine'")
		var blocks, installation, digest []byte
		var issued int64
		err := d.admin.QueryRow(t.Context(), `SELECT p.blocks, uuid_send(p.installation), v.digest, v.issued_at_ns FROM avouch_keys.pepper p, avouch_keys.verifier v WHERE v.key_id = $1`, id).
			Scan(&blocks, &installation, &digest, &issued)
		if err != nil {
			t.Fatal(err)
		}
		secret := func(block []byte) []byte {
			out := make([]byte, 32)
			for i := range out {
				out[i] = block[i] ^ 0x36
			}
			return out
		}
		h0 := sha256.Sum256([]byte(key))
		m := hmac.New(sha512.New, secret(blocks))
		m.Write([]byte("apikey/v1/s1" + id))
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(issued)))
		m.Write(h0[:])
		h1 := m.Sum(nil)
		m = hmac.New(sha512.New, secret(blocks[256:]))
		m.Write([]byte("apikey/v1/s2"))
		m.Write(installation)
		m.Write(h1)
		if want := sha256.Sum256(m.Sum(nil)); hex.EncodeToString(want[:]) != hex.EncodeToString(digest) {
			t.Errorf("stored %x, want %x", digest, want)
		}
		if got := d.ask("SELECT count(*) FROM avouch_keys.verifier a JOIN avouch_keys.verifier b ON a.issued_at_ns >= b.issued_at_ns WHERE a.key_id < b.key_id AND a.issued_at_ns = b.issued_at_ns"); got != "0" {
			t.Errorf("%s keys were issued at the same nanosecond", got)
		}
	})
}
