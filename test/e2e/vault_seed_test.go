package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/otp"
)

// roomy is a scene with a vault, everybody who may have to do with it, and a recorder before the server.
type roomy struct {
	*scene
	rec      *recorder
	secrets  *hunt // what the vault keeps
	dir      string
	public   string            // where the server says that it is
	items    map[string]string // ids, by what they are
	callers  []teller
	owner    *visitor
	exporter *visitor // has the level seed
	echo     string   // a host that answers with what it was sent
}

// teller asks by a credential.
type teller struct {
	name   string
	header []string
}

// TestSeedNeverLeaves puts seeds, recovery codes and a secret into the vault, and has everybody ask every operation about them, in every
// role, and an operator every command: nothing that the server answers, mails, logs, traces or stores, and nothing that commands print,
// holds one in any form. The export of a person who may have the seed, and who proved themselves a moment ago, holds it, and so shows
// that the same search finds it. TestPlantedSeedIsFound plants it in each form.
func TestSeedNeverLeaves(t *testing.T) {
	t.Parallel()
	control := strings.ToLower(rand.Text())
	dir, traces := filepath.Join(scratch(t), control), collect(t)
	p, r := dev(t, dir, launch{env: []string{"AVOUCH_OTLP_ENDPOINT=" + traces.url, "AVOUCH_VAULT_NETWORKS=127.0.0.0/8", "AVOUCH_KEYS_PER_OWNER=50"}})
	s := &roomy{scene: &scene{t: t, h: newHunt(), r: r}, rec: record(t, r.URL), secrets: newHunt(), dir: dir, public: r.URL, items: map[string]string{}}
	s.r.URL = s.rec.url
	s.secrets.add(t, "control", []byte(control))
	s.enters()
	s.fills(control)
	stop := s.listens()
	s.asksAll()
	stop()
	shown := s.exports()
	s.ends()
	s.judges(shown)

	places := map[string][]byte{"commands": s.commands(), "dump": dump(t, r.AdminDatabaseURL), "metrics": want(t, 200, http.MethodGet, r.URL+"/metrics", "", nil, nil).body}
	p.end(syscall.SIGTERM)
	places["server's log"], places["traces"], places["files"] = []byte(p.said()), traces.all(), files(t, dir)
	for place, text := range places {
		found := s.secrets.anyhow(text)
		if len(text) < 500 || slices.Contains([]string{"server's log", "files", "dump", "commands"}, place) && !slices.Contains(found, "control") {
			t.Errorf("%s: %d bytes, and the control is not found: this shows nothing", place, len(text))
		}
		for _, name := range found {
			if name != "control" {
				t.Errorf("%s: %s", place, name)
			}
		}
	}
}

// enters has people join in every role, and makes an agent and keys.
func (s *roomy) enters() {
	s.t.Helper()
	for _, role := range []string{"owner", "admin", "member", "member", "member", "viewer", "auditor"} {
		v := &visitor{scene: s.scene, name: strings.ToLower(rand.Text()), password: rand.Text() + " is what I chose"}
		want(s.t, 201, http.MethodPost, s.r.URL+"/api/v1/invitations", s.r.OwnerKey, map[string]any{"address": v.name + "@people.example", "name": "Somebody", "roles": []string{role}}, nil)
		step := v.page(200, http.MethodPost, "/api/v1/join", map[string]any{"do": "join", "link": v.mailed(), "name": "Somebody", "password": v.password})
		if step.State == "enrol" {
			begun := v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": step.Attempt, "do": "enrol", "kind": "totp", "name": "phone"}).Enrolled
			seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(begun.Secret, " ", ""))
			must(s.t, err)
			v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": step.Attempt, "do": "confirm", "factor": begun.ID, "code": otp.Usual().Code(seed, uint64(time.Now().Unix()/30))})
		}
		name := role
		switch n := len(s.callers); {
		case n == 0:
			s.owner = v
		case n == 3:
			name = "member with a grant"
		case n == 4:
			name, s.exporter = "member with the seed", v
		}
		s.callers = append(s.callers, teller{name, v.headers()})
	}
	var made struct{ Key, Token string }
	for name, scopes := range map[string][]string{"agent": {"read:codes", "use:secrets"}, "agent without a grant": {"read:codes", "use:secrets"}, "agent without a scope": {"read:email"}} {
		want(s.t, 201, http.MethodPost, s.r.URL+"/api/v1/agents/register", s.r.OwnerKey, map[string]any{"name": name, "capabilities": scopes}, &made)
		s.callers = append(s.callers, teller{name, []string{"Authorization", "Bearer " + made.Token}})
	}
	want(s.t, 201, http.MethodPost, s.r.URL+"/api/v1/keys", s.r.OwnerKey, map[string]any{"name": "service", "kind": "service"}, &made)
	s.callers = append(s.callers, teller{"service key", []string{"Authorization", "Bearer " + made.Key}}, teller{"owner key", []string{"Authorization", "Bearer " + s.r.OwnerKey}},
		teller{"another organisation's owner key", []string{"Authorization", "Bearer " + s.r.ServiceOwnerKey}}, teller{"nobody", nil})
}

// by sends a request as somebody, who is named to the recorder.
func (s *roomy) by(c teller, method, path string, body any, more ...string) reply {
	s.t.Helper()
	got, err := ask(method, s.r.URL+path, "", body, append(append([]string{asker, c.name}, c.header...), more...)...)
	must(s.t, err)
	if got.status == http.StatusInternalServerError {
		s.t.Errorf("%s: %s %s: %s", c.name, method, path, got.body)
	}
	return got
}

// recoveryCodes is how many there are; only the first half is ever taken.
const recoveryCodes = 100

// fills puts items into the vault, as the owner, and grants them. The control is a part of their names, and an agent's.
func (s *roomy) fills(control string) {
	s.t.Helper()
	s.echo = "http://" + serveBeside(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Write(w)
		w.Header().Set("X-Sent", r.Header.Get("Authorization"))
	}))
	seed := func(name string, n int) string {
		b := make([]byte, n)
		rand.Read(b)
		if name == "hotp" {
			b = []byte(rand.Text()[:n]) // which JSON writes as it is
		}
		s.secrets.seed(s.t, "seed of "+name, b)
		return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
	}
	want(s.t, http.StatusCreated, http.MethodPost, s.r.URL+"/api/v1/agents/register", s.r.OwnerKey, map[string]any{"name": control}, nil)
	var codes []string
	for n := range recoveryCodes {
		codes = append(codes, rand.Text()[:20])
		if n >= recoveryCodes/2 {
			s.secrets.add(s.t, "recovery code", []byte(codes[n]))
		}
	}
	text := rand.Text()
	s.secrets.add(s.t, "secret", []byte(text))
	fetch := map[string]any{"hosts": []string{s.echo}, "header": "Authorization", "value": "Bearer {secret}"}
	for what, body := range map[string]map[string]any{
		"totp": {"type": "totp", "secret": seed("totp", 20)}, "uri": {"uri": "otpauth://totp/x:y?secret=" + seed("uri", 32) + "&algorithm=SHA256&digits=8"},
		"hotp": {"type": "hotp", "secret": seed("hotp", 20)}, "steam": {"type": "steam", "secret": seed("steam", 20)}, "codes": {"type": "codes", "codes": codes},
		"secret": {"type": "secret", "secret": text, "policy": map[string]any{"fetch": fetch}}, "approval": {"type": "totp", "secret": seed("approval", 20), "policy": map[string]any{"approval": true}},
	} {
		body["name"], body["listed"], body["notes"] = what+" "+control, true, control
		var made struct {
			ID string `json:"item_id"`
		}
		got := s.by(s.callers[0], http.MethodPost, vaultItems, body)
		if got.status != http.StatusCreated || !decoded(got.body, &made) {
			s.t.Fatalf("%s: %d %s", what, got.status, got.body)
		}
		s.items[what] = made.ID
		s.grants(made.ID)
	}
	imported := "otpauth://totp/imported?secret=" + seed("imported", 20) + "\notpauth://hotp/counted?secret=" + seed("imported and counted", 20) + "&counter=3"
	for _, dry := range []bool{true, false, false} {
		if got := s.by(s.callers[0], http.MethodPost, "/api/v1/vault/import", map[string]any{"format": "uri", "data": imported, "dry_run": dry}); got.status != http.StatusOK {
			s.t.Fatalf("import: %d %s", got.status, got.body)
		}
	}
}

// grants grants an item to those who may have it.
func (s *roomy) grants(item string) {
	s.t.Helper()
	for _, c := range s.callers {
		to, level := map[string]any{}, "code"
		switch c.name {
		case "member with the seed":
			level = "seed"
			fallthrough
		case "member with a grant":
			var me struct {
				ID string `json:"person_id"`
			}
			decoded(s.by(c, http.MethodGet, "/api/v1/session", nil).body, &me)
			to["person_id"] = me.ID
		case "agent":
			var found struct {
				Agents []struct {
					ID   string `json:"agent_id"`
					Name string
				}
			}
			decoded(s.by(s.callers[0], http.MethodGet, "/api/v1/agents?limit=100", nil).body, &found)
			for _, a := range found.Agents {
				if a.Name == c.name {
					to["agent_id"] = a.ID
				}
			}
		default:
			continue
		}
		to["level"] = level
		if got := s.by(s.callers[0], http.MethodPost, vaultItems+"/"+item+"/grants", to); got.status != http.StatusCreated {
			s.t.Fatalf("granting to %s: %d %s", c.name, got.status, got.body)
		}
	}
}

// listens follows the log, as the owner, until stop is called.
func (s *roomy) listens() (stop func()) {
	q, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.r.URL+"/api/v1/audit/stream", nil)
	must(s.t, err)
	q.Header.Set("Authorization", "Bearer "+s.r.OwnerKey)
	q.Header.Set(asker, "listener")
	got, err := (&http.Client{}).Do(q)
	must(s.t, err)
	if got.StatusCode != http.StatusOK {
		s.t.Errorf("the stream of the log: %d", got.StatusCode)
	}
	ended := make(chan bool)
	go func() {
		defer close(ended)
		b := make([]byte, 4096)
		for err := error(nil); err == nil; {
			_, err = got.Body.Read(b)
		}
	}()
	return func() { got.Body.Close(); <-ended }
}

// operationsOf is what the server says that it can be asked.
func (s *roomy) operationsOf() (all []operation) {
	s.t.Helper()
	var described struct {
		Paths map[string]map[string]struct {
			ID   string `json:"operationId"`
			Body any    `json:"requestBody"`
		}
	}
	want(s.t, http.StatusOK, http.MethodGet, s.r.URL+"/openapi.json", "", nil, &described)
	for path, methods := range described.Paths {
		for method, o := range methods {
			all = append(all, operation{id: o.ID, method: strings.ToUpper(method), path: path, body: o.Body != nil})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// final are those that end what the others are asked about: ends asks them.
func final(id string) bool {
	return slices.Contains([]string{"delete-vault-item", "replace-vault-secret", "revoke-vault-grant"}, id)
}

// asksAll has everybody ask every operation of the vault about each item, and every other one that only reads.
func (s *roomy) asksAll() {
	s.t.Helper()
	worked, operations := map[string]bool{}, s.operationsOf()
	for _, c := range s.callers {
		request := ""
		for _, o := range operations {
			ofVault := strings.HasPrefix(o.path, "/api/v1/vault/")
			if final(o.id) || strings.HasSuffix(o.path, "/stream") || !ofVault && o.method != http.MethodGet {
				continue
			}
			about := []string{s.items["totp"]}
			if strings.HasPrefix(o.path, vaultItems+"/{id}") {
				about = nil
				for _, id := range s.items {
					about = append(about, id)
				}
			}
			for _, id := range about {
				if strings.Contains(o.path, "/requests/") {
					request = s.requested(request)
					id = request
				}
				got := s.by(c, o.method, s.path(o, id), s.body(o, id), "If-Match", "*", "Accept-Encoding", "gzip")
				worked[o.id] = worked[o.id] || got.status < 300
			}
		}
	}
	for _, o := range operations {
		if strings.HasPrefix(o.path, "/api/v1/vault/") && !worked[o.id] && !final(o.id) && o.id != "export-vault" {
			s.t.Errorf("%s worked for nobody: nothing was looked at", o.id)
		}
	}
}

// path is an operation's, about something.
func (s *roomy) path(o operation, id string) string {
	seq := "5"
	if strings.HasPrefix(o.path, "/api/v1/vault/people/") {
		var me struct {
			ID string `json:"person_id"`
		}
		decoded(s.by(s.callers[3], http.MethodGet, "/api/v1/session", nil).body, &me)
		id = me.ID
	}
	path := strings.NewReplacer("{id}", id, "{person}", id, "{grant}", id, "{seq}", seq).Replace(o.path)
	for {
		before, rest, there := strings.Cut(path, "{")
		if !there {
			return path
		}
		_, after, _ := strings.Cut(rest, "}")
		path = before + id + after
	}
}

// body is what an operation of the vault takes.
func (s *roomy) body(o operation, id string) any {
	if !o.body {
		return nil
	}
	switch o.id {
	case "add-vault-item":
		return map[string]any{"name": "one more", "type": "totp", "secret": seedOfRFC}
	case "update-vault-item":
		return map[string]any{"icon": "key"}
	case "resync-vault-item":
		return map[string]any{"counter": 500}
	case "grant-vault-item":
		return map[string]any{"agent_id": s.r.AgentID}
	case "request-vault-item":
		return map[string]any{"reason": "the pager went off", "level": "seed"}
	case "import-vault":
		return map[string]any{"format": "uri", "data": "otpauth://totp/again?secret=" + seedOfRFC}
	case "export-vault":
		return map[string]any{"items": []string{id}, "reason": "to see", "clear": true}
	case "use-vault-secret":
		return map[string]any{"url": s.echo + "/"}
	}
	s.t.Errorf("%s: say here what a good request is", o.id)
	return nil
}

// requested is a request that waits, made by a member to whom nothing is granted.
func (s *roomy) requested(before string) string {
	var made struct {
		ID string `json:"request_id"`
	}
	got := s.by(s.callers[2], http.MethodPost, vaultItems+"/"+s.items["approval"]+"/requests", map[string]any{"reason": "the pager went off"})
	if got.status != http.StatusCreated || !decoded(got.body, &made) {
		return before // three wait already
	}
	return made.ID
}

// exports has those who may have seeds export them, in each format, in clear and encrypted. It returns how many seeds were shown.
func (s *roomy) exports() (shown int) {
	s.t.Helper()
	for _, what := range []string{"totp", "uri", "hotp"} {
		for _, format := range []string{"uri", "csv", "avouch"} {
			for _, in := range []map[string]any{{"clear": true}, {"passphrase": "a passphrase of several words"}} {
				in["items"], in["format"], in["reason"] = []string{s.items[what]}, format, "we move on"
				got := s.by(teller{"export", s.exporter.headers()}, http.MethodPost, "/api/v1/vault/export", in)
				if got.status != http.StatusOK {
					s.t.Errorf("export of %s as %s: %d %s", what, format, got.status, got.body)
				}
				found := s.secrets.anyhow(got.body)
				if clear := in["clear"] == true; clear != slices.Contains(found, "seed of "+what) {
					s.t.Errorf("the export of %s as %s, in clear: %v: found %v", what, format, clear, found)
				} else if clear {
					shown++
				}
			}
		}
	}
	return shown
}

// ends replaces secrets, revokes and deletes.
func (s *roomy) ends() {
	s.t.Helper()
	fresh := make([]byte, 20)
	rand.Read(fresh)
	s.secrets.seed(s.t, "seed in the place of another", fresh)
	for what, id := range s.items {
		for _, c := range s.callers[1:] {
			s.by(c, http.MethodPut, vaultItems+"/"+id+"/secret", map[string]any{"secret": seedOfRFC}, "If-Match", `"9999"`)
			s.by(c, http.MethodDelete, vaultItems+"/"+id, nil, "If-Match", `"9999"`)
		}
		if what == "totp" || what == "steam" {
			got := s.by(s.callers[0], http.MethodPut, vaultItems+"/"+id+"/secret", map[string]any{"secret": base32.StdEncoding.EncodeToString(fresh)}, "If-Match", "*")
			if got.status != http.StatusOK {
				s.t.Errorf("replacing: %d %s", got.status, got.body)
			}
			s.by(s.callers[3], http.MethodGet, vaultItems+"/"+id+"/code", nil)
		}
		if got := s.by(s.callers[0], http.MethodDelete, vaultItems+"/"+id, nil, "If-Match", "*"); got.status != http.StatusNoContent {
			s.t.Errorf("deleting: %d %s", got.status, got.body)
		}
		s.by(s.callers[0], http.MethodGet, vaultItems+"/"+id, nil)
	}
	eventually(s.t, "mail about an export", func() bool {
		inbox := want(s.t, http.StatusOK, http.MethodGet, s.r.URL+"/dev/inbox", "", nil, nil).body
		for _, page := range inInbox.FindAll(inbox, -1) { // those that it still has are recorded
			got, err := ask(http.MethodGet, s.r.URL+string(page), "", nil)
			must(s.t, err)
			if bytes.Contains(got.body, []byte("out of the vault")) {
				return true
			}
		}
		return false
	})
}

var inInbox = regexp.MustCompile(`/dev/inbox/\d+`)

// judges wants the exports in clear among what was recorded to hold what they were to show, and nothing else to hold anything.
func (s *roomy) judges(shown int) {
	s.t.Helper()
	found, size := s.rec.showing(s.secrets)
	exports, controls, streamed := 0, 0, 0
	for _, x := range s.rec.all {
		if x.who == "listener" {
			streamed += len(x.bytes())
		}
	}
	for x, names := range found {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "control" })
		controls++
		switch {
		case len(names) == 0:
		case x.who == "export" && x.path == "/api/v1/vault/export" && x.status == http.StatusOK:
			exports++
		case x.who == "member with the seed" && x.path == "/api/v1/vault/export" && x.status == http.StatusOK: // it may
		default:
			s.t.Errorf("%s: %v", x, names)
		}
	}
	if exports != shown || shown == 0 || controls < 50 || streamed < 10_000 {
		s.t.Errorf("%d exports showed a seed, and %d of them are found; the control is found in %d answers; the stream has %d bytes", shown, exports, controls, streamed)
	}
	s.t.Logf("measured: %d answers with %d bytes, to %d callers; %d exports in clear alone hold a seed", len(s.rec.all), size, len(s.callers), exports)
}

// commands is what an operator's commands print, and those with an owner's key.
func (s *roomy) commands() (all []byte) {
	s.t.Helper()
	env := []string{
		"AVOUCH_DATABASE_URL=" + s.r.DatabaseURL, "AVOUCH_PLATFORM_KEY_FILE=" + filepath.Join(s.dir, "keys", "platform.key"), "AVOUCH_KEY_STORE=" + filepath.Join(s.dir, "keystore"),
		"AVOUCH_PUBLIC_URL=" + s.public, "AVOUCH_ADMIN_DATABASE_URL=" + s.r.AdminDatabaseURL, "SUDO_USER=mallory", "AVOUCH_URL=" + s.rec.url, "AVOUCH_API_KEY=" + s.r.OwnerKey,
	}
	out := filepath.Join(s.t.TempDir(), "exported")
	for _, args := range [][]string{
		{"keyring", "status"}, {"organisations", "list", "--json"}, {"organisations", "show"}, {"incidents", "list"}, {"audit", "check"}, {"audit", "tail", "-n", "500", "--long"},
		{"break-glass", "open", "--organisation", s.r.TenantID, "--reason", "To see what is in its log"}, {"audit", "export", "--tenant", s.r.TenantID, "--disclose", out}, {"break-glass", "list"},
		{"keys", "list"}, {"agents", "list"},
	} {
		p := start(s.t, launch{args: args, env: env})
		if code := p.exit(2 * time.Minute); code != 0 {
			s.t.Errorf("avouch %v ended with %d: %s", args, code, p.said())
		}
		all = append(append(all, p.printed()...), p.said()...)
	}
	opened, err := os.ReadFile(filepath.Join(out, "records.ndjson"))
	must(s.t, err)
	return append(all, opened...)
}
