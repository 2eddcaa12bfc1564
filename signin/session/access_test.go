package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// parts are the header and the payload of a token.
func parts(t testing.TB, token string) (header, payload map[string]any) {
	t.Helper()
	for i, into := range []*map[string]any{&header, &payload} {
		b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
		must(t, err)
		must(t, json.Unmarshal(b, into))
	}
	return header, payload
}

// TestAccessTokenOnTheWire holds the names and forms of all that is in a token: gateways of customers read them.
func TestAccessTokenOnTheWire(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tokens := h.tokens(t, program(h.person))
	head, payload := parts(t, tokens.Access.Expose())
	if head["alg"] != "ES256" || head["typ"] != "at+jwt" || len(head) != 3 {
		t.Errorf("the header is %v", head)
	}
	now := float64(h.clock.now().Unix())
	jti, _ := payload["jti"].(string)
	delete(payload, "jti")
	want := map[string]any{
		"iss": issuer, "aud": issuer + "/api", "sub": h.person.String(), "tenant_id": h.tenant.String(), "sid": tokens.Session.String(),
		"caps": []any{"agents:read", "agents:write"}, "amr": []any{"password", "totp"}, "auth_time": now, "iat": now, "exp": now + 900,
	}
	if fmt.Sprint(payload) != fmt.Sprint(want) || len(jti) != 36 {
		t.Errorf("the claims are\n%v, want\n%v", payload, want)
	}
	c, err := h.as(t, bearer(tokens.Access.Expose()))
	must(t, err)
	if p, _ := c.Person(); c.How() != "access-token:password+totp" || p.ID != h.person || p.Session != tokens.Session.String() || !c.May("agents:write") {
		t.Errorf("the caller is %+v, how %q", p, c.How())
	}
}

// TestTokensNarrow: a token never does more than it was given, nor more than its person may do now.
func TestTokensNarrow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token := h.tokens(t, program(h.person)).Access.Expose()
	h.people.set(h.person, func(st *Standing) { st.Capabilities = []string{"agents:read", "keys:write"} })
	c, err := h.as(t, bearer(token))
	if err != nil || !slices.Equal(c.Scopes(), []string{"agents:read"}) {
		t.Errorf("the token may %v, %v", c.Scopes(), err)
	}
}

// TestAgain is what a stream asks: what is over, or narrower, is so there too, and waiting is no sign of life.
func TestAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, v := h.start(t, browser(h.person))
	c, err := h.as(t, withCookie(v))
	must(t, err)
	h.people.set(h.person, func(st *Standing) { st.Capabilities = []string{"agents:read", "keys:write"} })
	if got, err := h.room.Again(t.Context(), c); err != nil || !slices.Equal(got.Scopes(), []string{"agents:read"}) || got.How() != c.How() || got.RequestID() != c.RequestID() {
		t.Errorf("again it may %v, %v", got.Scopes(), err)
	}
	for range 12 {
		h.clock.advance(time.Hour - time.Minute)
		if _, err := h.room.Again(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	h.clock.advance(12 * time.Minute)
	if _, err := h.room.Again(t.Context(), c); err == nil {
		t.Error("a stream keeps its session from being idle")
	}
	s, v = h.start(t, browser(h.person))
	c, err = h.as(t, withCookie(v))
	must(t, err)
	must(t, h.room.EndOne(t.Context(), c, s.ID, "ended"))
	if _, err := h.room.Again(t.Context(), c); err == nil {
		t.Error("a session that ended goes on in its stream")
	}
	if _, err := h.room.Again(t.Context(), h.Caller(h.tenant, tenantdb.Everything)); err == nil {
		t.Error("a key has a session")
	}
}

// TestConnectionsEnd ends what a connection began, and nothing else.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.join(t, Standing{})
	via := [16]byte{7}
	start := func(p tenantdb.PersonID, by [16]byte) []string {
		n := browser(p)
		n.Via = by
		_, v := h.start(t, n)
		return withCookie(v)
	}
	plain, through, theirs := start(h.person, [16]byte{}), start(h.person, via), start(other, via)
	end := func(w Which) (n int) {
		h.change(t, func(tx *tenantdb.Tx) (err error) { n, err = h.room.EndWhere(t.Context(), tx, w, "test"); return err })
		return n
	}
	if n := end(Which{Person: h.person, NotVia: via}); n != 1 {
		t.Errorf("%d sessions of the person that another way began ended", n)
	}
	h.refused(t, "begun otherwise", plain)
	h.counts(t, through)
	if n := end(Which{Person: h.person, Via: via}); n != 1 {
		t.Errorf("%d sessions of the person ended", n)
	}
	h.refused(t, "begun by the connection", through)
	h.counts(t, theirs)
	if n := end(Which{Via: via}); n != 1 {
		t.Errorf("%d sessions of the connection ended", n)
	}
	h.refused(t, "another's", theirs)
	if e := h.OfType(t, h.tenant, "session.started"); e[1].Field("connection") != tenantdb.TenantID(via).String() || e[0].Field("connection") != "" {
		t.Errorf("the entries say %+v", e)
	}
}

// TestConnectionsVouch: a session that a connection began counts while that is believed about what its person may do by now.
func TestConnectionsVouch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.room.cfg.Vouches = func(_ context.Context, _ *tenantdb.ReadTx, via [16]byte, capabilities []string) (bool, error) {
		return via == [16]byte{7} && !slices.Contains(capabilities, tenantdb.Everything), nil
	}
	n := browser(h.person)
	_, own := h.start(t, n)
	n.Via = [16]byte{7}
	_, through := h.start(t, n)
	n.Via = [16]byte{8}
	_, other := h.start(t, n)
	h.counts(t, withCookie(own))
	h.counts(t, withCookie(through))
	h.refused(t, "by a connection that is not believed", withCookie(other))
	h.people.set(h.person, func(s *Standing) { s.Capabilities = []string{tenantdb.Everything} })
	h.refused(t, "of who became an owner", withCookie(through))
	h.counts(t, withCookie(own))
	if e := h.OfType(t, h.tenant, "session.refused"); len(e) != 2 || e[1].Field("reason") != "connection" {
		t.Errorf("%+v", e)
	}
}

// TestRowsAreNoSessions: who can write into the database, and has no key of the organisation's, makes no session by it.
func TestRowsAreNoSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	victim := h.join(t, Standing{Capabilities: []string{tenantdb.Everything}})
	for what, sql := range map[string]string{
		"made another's":       `UPDATE avouch.session SET person_id = $2 WHERE tenant_id = $1 AND person_id <> $2`,
		"proved by a factor":   `UPDATE avouch.session SET methods = '{password,totp,passkey}' WHERE tenant_id = $1 AND person_id <> $2`,
		"proved just now":      `UPDATE avouch.session SET proved_at = proved_at + interval '1 minute' WHERE tenant_id = $1 AND person_id <> $2`,
		"of who could more":    `UPDATE avouch.session SET held = '{*}' WHERE tenant_id = $1 AND person_id <> $2`,
		"begun by nobody":      `UPDATE avouch.session SET via = NULL WHERE tenant_id = $1 AND person_id <> $2`,
		"of a cookie of one's": `UPDATE avouch.session s SET digest = o.digest FROM avouch.session o WHERE s.tenant_id = $1 AND s.person_id = $2 AND o.tenant_id = $1 AND o.person_id <> $2`,
		"written": `INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, description, methods, created_at, proved_at, held, expires_at, idle_seconds, mac)
			SELECT $1, gen_random_uuid(), $2, kind, digest, description, methods, created_at, proved_at, held, expires_at, idle_seconds, mac FROM avouch.session WHERE tenant_id = $1 AND person_id <> $2`,
	} {
		h.person = h.join(t, Standing{})
		n := browser(h.person)
		n.Via = [16]byte{7}
		s, cookie := h.start(t, n)
		_, theirs := h.start(t, browser(victim))
		h.counts(t, withCookie(cookie))
		h.change(t, func(tx *tenantdb.Tx) error { _, err := tx.Exec(t.Context(), sql, tx.Tenant(), victim); return err })
		if what == "of a cookie of one's" || what == "written" { // both rows have it: whichever is found must be refused, or its own
			h.change(t, func(tx *tenantdb.Tx) error {
				_, err := tx.Exec(t.Context(), `DELETE FROM avouch.session WHERE tenant_id = $1 AND session_id = $2`, tx.Tenant(), s.ID)
				return err
			})
		}
		h.refused(t, what, withCookie(cookie))
		_ = theirs
		h.change(t, func(tx *tenantdb.Tx) error {
			_, err := tx.Exec(t.Context(), `DELETE FROM avouch.session_use WHERE tenant_id = $1`, tx.Tenant())
			if err == nil {
				_, err = tx.Exec(t.Context(), `DELETE FROM avouch.session WHERE tenant_id = $1`, tx.Tenant())
			}
			return err
		})
	}
	renewed := h.tokens(t, program(h.person))
	h.change(t, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.session SET person_id = $2 WHERE tenant_id = $1`, tx.Tenant(), victim)
		return err
	})
	if _, err := h.room.Refresh(t.Context(), meta(), Renewal{Token: renewed.Refresh, UserAgent: "avouch-cli/1.0"}); err == nil {
		t.Error("a program's family was made another's")
	}
}

// TestRevocationIsAtOnce ends sessions and keys on one server and asks the other.
func TestRevocationIsAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	token := h.tokens(t, program(h.person)).Access.Expose()
	other.counts(t, bearer(token))
	head, _ := parts(t, token)
	must(t, h.signing.Revoke(t.Context(), keyring.NewSigningTable(h.DB, tenantdb.System(tenantdb.Platform, "operator")), head["kid"].(string)))
	other.refused(t, "its key was revoked on another server", bearer(token))
	token = h.tokens(t, program(h.person)).Access.Expose()
	other.counts(t, bearer(token))
	_, payload := parts(t, token)
	of, err := ParseID(payload["sid"].(string))
	must(t, err)
	c := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: h.tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: h.person.String()}, How: "test",
		RequestID: audit.NewRequestID(), Person: &tenantdb.Person{ID: h.person, Session: of.String()}})
	must(t, h.room.EndOne(t.Context(), c, of, "ended"))
	other.refused(t, "its session was ended on another server", bearer(token))
}

// TestRS256 has a tenant that asks for it, on a server that never made such a key, and on another.
func TestRS256(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	if strings.Contains(string(h.signing.PeopleJWKS()), "RSA") {
		t.Error("RSA keys are there before anybody asks")
	}
	h.people.set(h.person, func(st *Standing) { st.Algorithm = keyring.RS256 })
	tokens := h.tokens(t, program(h.person))
	head, payload := parts(t, tokens.Access.Expose())
	other.counts(t, bearer(tokens.Access.Expose()))
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(h.signing.PeopleJWKS(), &set))
	jws, err := jose.ParseSignedCompact(tokens.Access.Expose(), []jose.SignatureAlgorithm{jose.RS256})
	must(t, err)
	if keys := set.Key(head["kid"].(string)); len(keys) != 1 {
		t.Fatalf("%d keys are published", len(keys))
	} else if _, err := jws.Verify(keys[0]); err != nil || head["alg"] != "RS256" {
		t.Errorf("others do not verify it: %v", err)
	}
	// The public key is no secret, whatever a header says.
	key := set.Key(head["kid"].(string))[0]
	der, err := x509.MarshalPKIXPublicKey(key.Key)
	must(t, err)
	jwk, err := key.MarshalJSON()
	must(t, err)
	claims, err := json.Marshal(payload)
	must(t, err)
	sum := sha256.Sum256([]byte("x"))
	for what, k := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "JWK": jwk, "JWKS": h.signing.PeopleJWKS(), "nothing": nil} {
		for _, alg := range []string{"HS256", "RS256"} {
			input := encode(fmt.Appendf(nil, `{"alg":%q,"typ":"at+jwt","kid":%q}`, alg, head["kid"])) + "." + encode(claims)
			m := hmac.New(sha256.New, k)
			m.Write([]byte(input))
			h.refused(t, alg+" by the "+what, bearer(input+"."+encode(m.Sum(nil))))
		}
	}
	for _, alg := range []string{"none", "None", "ES256", "PS256", "RS384", "RS512", "rs256", ""} {
		relabelled := strings.Split(tokens.Access.Expose(), ".")
		relabelled[0] = encode(fmt.Appendf(nil, `{"alg":%q,"typ":"at+jwt","kid":%q}`, alg, head["kid"]))
		h.refused(t, "relabelled "+alg, bearer(strings.Join(relabelled, ".")))
		h.refused(t, "relabelled "+alg+" with 64 bytes", bearer(relabelled[0]+"."+relabelled[1]+"."+encode(append(sum[:], sum[:]...))))
		h.refused(t, "relabelled "+alg+" unsigned", bearer(relabelled[0]+"."+relabelled[1]+"."))
	}
}

// TestForeignTokens are well signed by keys of ours, and no access tokens of people; or say what they may not.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	session := h.tokens(t, program(h.person))
	cookie, _ := h.start(t, browser(h.person))
	_, payload := parts(t, session.Access.Expose())
	stranger := h.join(t, Standing{Capabilities: []string{tenantdb.Everything}})
	other := h.Tenant(t, "Other")
	with := func(changes map[string]any) []byte {
		t.Helper()
		all := map[string]any{}
		for k, v := range payload {
			all[k] = v
		}
		for k, v := range changes {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		b, err := json.Marshal(all)
		must(t, err)
		return b
	}
	good, err := h.signing.SignSession(t.Context(), keyring.ES256, with(nil))
	must(t, err)
	h.counts(t, bearer(good))
	now := h.clock.now().Unix()
	for why, changes := range map[string]map[string]any{
		"another person":     {"sub": stranger.String()},
		"another tenant":     {"tenant_id": other.String()},
		"another session":    {"sid": id.New[sessionKind]().String()},
		"a browser's":        {"sid": cookie.ID.String()},
		"no session":         {"sid": nil},
		"no tenant":          {"tenant_id": nil},
		"another issuer":     {"iss": "https://evil.example"},
		"issued tomorrow":    {"iat": now + 3600},
		"malformed session":  {"sid": "x"},
		"caps are no list":   {"caps": "*"},
		"expiry is fraction": {"exp": float64(now) + 60.5},
	} {
		token, err := h.signing.SignSession(t.Context(), keyring.ES256, with(changes))
		if err == nil {
			h.refused(t, why, bearer(token))
		}
	}
	// Signed by the keys of agents' tokens, whatever it says of itself.
	for _, typ := range []string{keyring.TypeAccessToken, keyring.TypeJWT} {
		token, err := h.signing.Sign(t.Context(), typ, with(nil))
		must(t, err)
		if c, there, err := h.room.Authenticate(t.Context(), request("GET", bearer(token)...), meta()); there != (typ == keyring.TypeAccessToken) || there && err == nil || c.Actor().Kind != "" {
			t.Errorf("an agent's key signed a token of type %s: %t, %v", typ, there, err)
		}
	}
	// Another audience is somebody else's to judge, and nobody's.
	for _, aud := range []any{issuer, []string{issuer + "/api"}, []string{issuer + "/api", "x"}, "https://evil.example/api", nil} {
		token, err := h.signing.SignSession(t.Context(), keyring.ES256, with(map[string]any{"aud": aud}))
		must(t, err)
		if _, there, _ := h.room.Authenticate(t.Context(), request("GET", bearer(token)...), meta()); there {
			t.Errorf("the audience %v is taken for ours", aud)
		}
		if _, err := h.room.check(t.Context(), token); err == nil {
			t.Errorf("a token for %v is good", aud)
		}
	}
	for why, token := range map[string]string{
		"a line end": good[:20] + "\n" + good[20:], "padding": good + "=", "four parts": good + ".AA", "two parts": good[:strings.LastIndexByte(good, '.')], "long": good + strings.Repeat("A", maxAccess),
	} {
		if _, err := h.room.check(t.Context(), token); err == nil {
			t.Errorf("with %s it is good", why)
		}
	}
	h.clock.advance(AccessLife - time.Second)
	h.counts(t, bearer(good))
	h.clock.advance(time.Second)
	h.refused(t, "fifteen minutes later", bearer(good))
}
