package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// modelKey is what the model knows of a key.
type modelKey struct {
	key, id, user string
	scope         string
	ends          time.Duration // on the model's clock; 0: never
	life          time.Duration
	revoked       bool
	next          int // the key that took its place; -1: none
	before        int // the key whose place it took; -1: none
	maker         int // the key that made it; -1: a session did
}

// model is the keys of two users as they should be. Its clock moves by ageing the database's rows.
type model struct {
	d     *db
	conn  *pgx.Conn
	clock time.Duration
	keys  []*modelKey
}

const (
	modelMost = 4
	modelLife = 90 * 24 * time.Hour
)

func (m *model) live(k *modelKey) bool { return !k.revoked && (k.ends == 0 || k.ends > m.clock) }

func (m *model) active(user string) int {
	n := 0
	for _, k := range m.keys {
		if k.user == user && m.live(k) && (k.next < 0 || !m.live(m.keys[k.next])) {
			n++
		}
	}
	return n
}

func (m *model) send(t *rapid.T, r request, sql string) (string, string) {
	got, err := m.d.send(m.conn, r, sql)
	if err != nil && code(err) == "" {
		t.Fatalf("%s: %v", sql, err)
	}
	return got, code(err)
}

// pick is one of the keys, or none where there is none.
func (m *model) pick(t *rapid.T) (int, *modelKey) {
	if len(m.keys) == 0 {
		t.Skip("skipped: no key yet")
	}
	i := rapid.IntRange(0, len(m.keys)-1).Draw(t, "key")
	return i, m.keys[i]
}

// create makes a key as a session, or as a key, and compares who may.
func (m *model) create(t *rapid.T) {
	user := rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "user")
	scope := rapid.SampledFrom([]string{"", "reader", "writer"}).Draw(t, "scope")
	life := rapid.SampledFrom([]time.Duration{0, modelLife, 24 * time.Hour, 20 * 24 * time.Hour}).Draw(t, "life")
	r, maker := session(user), -1
	if len(m.keys) > 0 && rapid.Bool().Draw(t, "by a key") {
		var k *modelKey
		if maker, k = m.pick(t); k != nil {
			r, user = withKey(k.key), k.user
		}
	}
	want, k := "", &modelKey{user: user, scope: scope, life: life, next: -1, before: -1, maker: maker}
	if life > 0 {
		k.ends = m.clock + life
	}
	if maker >= 0 {
		p := m.keys[maker]
		switch {
		case !m.live(p):
			want = "PT401"
		case p.scope != scope && (p.scope != "writer" || scope != "reader"):
			want = "42501"
		}
		if p.ends > 0 && (k.ends == 0 || k.ends > p.ends) {
			k.ends = p.ends
		}
		if p.life > 0 && (k.life == 0 || k.life > p.life) {
			k.life = p.life
		}
	}
	if want == "" && m.active(user) >= modelMost {
		want = "PT409"
	}
	arguments := "'k', " + quoteOrNull(scope)
	switch life {
	case 0:
		arguments += ", never_expires => true"
	default:
		arguments += fmt.Sprintf(", now() + interval '%d seconds'", int(life.Seconds()))
	}
	got, state := m.send(t, r, "SELECT * FROM avouch_keys.create_key("+arguments+")")
	if state != want {
		t.Fatalf("create by %d as %s with %q: SQLSTATE %q, want %q", maker, user, scope, state, want)
	}
	if state == "" {
		k.key, k.id, _ = strings.Cut(got, "|")
		m.keys = append(m.keys, k)
	}
}

func quoteOrNull(s string) string {
	if s == "" {
		return "NULL"
	}
	return "'" + s + "'"
}

func (m *model) use(t *rapid.T) {
	i, k := m.pick(t)
	r := withKey(k.key)
	r.get = rapid.Bool().Draw(t, "read only")
	got, state := m.send(t, r, "SELECT avouch_keys.current_user_id(), avouch_keys.current_api_key() ->> 'key_id'")
	if m.live(k) != (state == "") || state == "" && got != k.user+"|"+k.id || state != "" && state != "PT401" {
		t.Fatalf("key %d, live %t: %q, %q", i, m.live(k), got, state)
	}
}

func (m *model) revoke(t *rapid.T) {
	i, k := m.pick(t)
	user := rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "user")
	line := []int{i}
	for n := 0; n < len(line); n++ {
		for j, other := range m.keys {
			if other.maker == line[n] && !slices.Contains(line, j) {
				line = append(line, j)
			}
		}
	}
	want, state := "false", ""
	for _, j := range line {
		if !m.keys[j].revoked {
			want = "true"
		}
	}
	if user != k.user {
		want, state = "", "PT404"
	}
	if got, s := m.send(t, session(user), "SELECT avouch_keys.revoke_key('"+k.id+"')"); got != want || s != state {
		t.Fatalf("%s revokes key %d: %q, %q; want %q, %q", user, i, got, s, want, state)
	}
	if state == "" {
		for _, j := range line {
			m.keys[j].revoked = true
		}
	}
}

func (m *model) rotate(t *rapid.T) {
	i, k := m.pick(t)
	byItself := rapid.Bool().Draw(t, "by itself")
	overlap := rapid.SampledFrom([]time.Duration{0, time.Hour, 30 * 24 * time.Hour}).Draw(t, "overlap")
	r := session(k.user)
	if byItself {
		r = withKey(k.key)
	}
	want := ""
	switch {
	case byItself && !m.live(k):
		want = "PT401"
	case !m.live(k), k.next >= 0:
		want = "PT409"
	}
	got, state := m.send(t, r, fmt.Sprintf("SELECT * FROM avouch_keys.rotate_key('%s', interval '%d seconds')", k.id, int(overlap.Seconds())))
	if state != want {
		t.Fatalf("key %d rotates, by itself %t: %q, want %q", i, byItself, state, want)
	}
	if state != "" {
		return
	}
	next := &modelKey{user: k.user, scope: k.scope, life: k.life, ends: k.ends, next: -1, before: i, maker: k.maker}
	if byItself {
		next.maker = i
	} else if next.ends = 0; k.life > 0 {
		next.ends = m.clock + k.life
	}
	next.key, next.id, _ = strings.Cut(got, "|")
	if k.before >= 0 {
		m.keys[k.before].revoked = true
	}
	k.next = len(m.keys)
	if overlap == 0 {
		k.revoked = true
	} else if end := m.clock + overlap; k.ends == 0 || k.ends > end {
		k.ends = end
	}
	m.keys = append(m.keys, next)
}

// tick lets time pass, half an hour off every other end so that nothing is decided by milliseconds.
func (m *model) tick(t *rapid.T) {
	by := rapid.SampledFrom([]time.Duration{90 * time.Minute, 36 * time.Hour, 29*24*time.Hour + 30*time.Minute}).Draw(t, "time")
	m.clock += by
	_, err := m.d.admin.Exec(context.Background(), "UPDATE avouch_keys.api_key SET expires_at = expires_at - $1::interval, created_at = created_at - $1::interval", by)
	if err != nil {
		t.Fatal(err)
	}
}

// check compares every key's state with the database, and has the log checked.
func (m *model) check(t *rapid.T) {
	for i, k := range m.keys {
		got, err := answer(context.Background(), m.d.admin, "SELECT avouch_keys.verify_key($1) IS NOT NULL", k.key)
		if err != nil || got != fmt.Sprint(m.live(k)) {
			t.Fatalf("key %d verifies: %s, %v; want %t", i, got, err, m.live(k))
		}
	}
	for _, user := range []string{"u1", "u2"} {
		got, err := answer(context.Background(), m.d.admin, `SELECT count(*) FROM avouch_keys.api_key a WHERE owner = $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
			AND NOT EXISTS (SELECT FROM avouch_keys.api_key n WHERE n.replaces = a.key_id AND n.revoked_at IS NULL AND coalesce(n.expires_at > now(), true))`, user)
		if err != nil || got != fmt.Sprint(m.active(user)) {
			t.Fatalf("%s has %s active keys, %v; want %d", user, got, err, m.active(user))
		}
	}
	if got, err := answer(context.Background(), m.d.admin, "SELECT count(*) FROM avouch_keys.check_log()"); err != nil || got != "0" {
		t.Fatalf("the log: %s, %v", got, err)
	}
}

func TestModelSoak(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		d.exec(fmt.Sprintf("SELECT avouch_keys.configure(most_keys => %d)", modelMost))
		conn := d.pool()
		rapid.Check(t, func(t *rapid.T) {
			_, err := d.admin.Exec(context.Background(), "DELETE FROM avouch_keys.verifier; DELETE FROM avouch_keys.api_key")
			if err != nil {
				t.Fatal(err)
			}
			m := &model{d: d, conn: conn}
			t.Repeat(map[string]func(*rapid.T){"create": m.create, "use": m.use, "revoke": m.revoke, "rotate": m.rotate, "tick": m.tick, "": m.check})
		})
	})
}
