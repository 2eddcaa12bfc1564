package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// operatorsWay are the commands that read, as an operator asks them who has the database as its superuser, the key store and the platform key,
// and has broken no glass. TENANT is the organisation, OUT a new directory or file. What is not here is in the other lists.
func operatorsWay() map[string][][]string {
	return map[string][][]string{
		"doctor": {{"--json"}}, "keyring status": {{}, {"--json"}}, "keyring rewrap": {{}}, "keyring rotate": {{"--organisation", "TENANT"}}, "keyring renew": {{"TENANT"}},
		"incidents list": {{}, {"--tenant", "TENANT"}}, "break-glass list": {{}, {"--organisation", "TENANT"}}, "audit check": {{}, {"--json"}},
		"audit export": {{"--tenant", "TENANT", "OUT"}, {"--tenant", "TENANT", "--disclose", "OUT"}}, "organisations list": {{}, {"--json"}},
		"organisations key": {{"TENANT", "--secret-file", "OUT"}}, "organisations invite-owner": {{"--organisation", "TENANT", "--address", "mallory@evil.example"}},
		"organisations kms status": {{"TENANT"}}, "migrate": {{}},
	}
}

// needCredential are commands that ask a server as anybody does, with a key or as a person: the operator has none. What the server answers to
// others is TestSeedNeverLeaves, and that a person's is needed vault's own tests.
func needCredential() *regexp.Regexp {
	return regexp.MustCompile(`^(verify|agents|revoke|scopes|trace|keys|vault|audit tail|audit prove|organisations (show|create|update))\b`)
}

// touchNothing are commands that open nothing which an organisation keeps: they serve, change the installation, or are about something else.
func touchNothing() *regexp.Regexp {
	return regexp.MustCompile(`^(dev|serve|version|pg|passwords|break-glass (open|end)|incidents resolve|keyring (new-pepper|revoke|shred)|organisations (set|suspend|resume|restore|region|kms .*))\b`)
}

var commandLine = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*(?: [a-z][a-z-]*)*)(?:  +\S.*)?$`)

// leaves are all commands of the program, by its own help.
func leaves(t testing.TB, of ...string) (all []string) {
	t.Helper()
	p := start(t, launch{args: append(of, "--help")})
	p.exit(time.Minute)
	usage, list, _ := strings.Cut(p.printed(), "\n")
	if !strings.Contains(usage, "<command>") {
		return []string{strings.Join(of, " ")}
	}
	for _, found := range commandLine.FindAllStringSubmatch(list, -1) {
		name := strings.Fields(found[1])
		if len(name) == len(of)+1 && strings.HasPrefix(found[1], strings.Join(of, " ")) {
			all = append(all, leaves(t, name...)...)
		}
	}
	return all
}

// TestSuperuserOpensNoVault: an operator with everything that a shell gives, and without a broken glass, asks every command that reads, and sees
// nothing of what a vault keeps: neither a secret nor a name.
func TestSuperuserOpensNoVault(t *testing.T) {
	t.Parallel()
	w := shared(t)
	s := w.serve(w.databaseURL)
	h := w.holderOf(s.url, w.owner, w.ownerKey)
	before := h.opened(t, s.url, h.key)
	hidden := newHunt()
	hidden.seed(t, "seed", []byte("12345678901234567890"))
	way, ran := operatorsWay(), 0
	for _, command := range leaves(t) {
		asked, known := way[command]
		delete(way, command)
		switch {
		case known:
		case needCredential().MatchString(command), touchNothing().MatchString(command):
			continue
		default:
			t.Errorf("say here whether avouch %s reads what an organisation keeps", command)
		}
		for _, args := range asked {
			for _, as := range []string{w.databaseURL, w.adminURL} {
				w.opensNothing(hidden, as, command, args)
				ran++
			}
		}
	}
	for command := range way {
		t.Errorf("there is no command avouch %s", command)
	}
	if after := h.opened(t, s.url, h.key); ran < 30 || after != before {
		t.Errorf("%d commands ran; %d requests open something then, and %d did before", ran, after, before)
		t.Log(s.said())
	}
	// What the same operator sees who breaks the glass: names, in the log, and in both logs that it was broken; no secret.
	dir := filepath.Join(t.TempDir(), "disclosed")
	for _, args := range [][]string{{"break-glass", "open", "--organisation", w.owner, "--reason", "To see that this is what opens"}, {"audit", "export", "--tenant", w.owner, "--disclose", dir}} {
		p := start(t, launch{args: args, env: append(w.env(w.databaseURL), "SUDO_USER=mallory")})
		if code := p.exit(time.Minute); code != 0 {
			t.Errorf("avouch %v ended with %d: %s", args, code, p.said())
		}
	}
	opened := contents(t, filepath.Join(dir, "records.ndjson"))
	if found := hidden.anyhow([]byte(opened)); !strings.Contains(opened, "hushhush") || len(found) > 0 {
		t.Errorf("behind a broken glass the log shows names: %v, and %v", strings.Contains(opened, "hushhush"), found)
	}
}

// opensNothing runs a command that may fail, and shows nothing either way.
func (w *world) opensNothing(hidden *hunt, databaseURL, command string, args []string) {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "out")
	argv := strings.Fields(command)
	for _, a := range args {
		argv = append(argv, strings.NewReplacer("TENANT", w.owner, "OUT", out).Replace(a))
	}
	env := append(w.env(databaseURL), "AVOUCH_ADMIN_DATABASE_URL="+w.adminURL, "SUDO_USER=mallory")
	p := start(w.t, launch{args: argv, env: env})
	p.exit(time.Minute)
	said := p.printed() + p.said()
	_ = filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error { // there may be none
		if err == nil && !d.IsDir() {
			said += contents(w.t, path)
		}
		return nil
	})
	if found := hidden.anyhow([]byte(said)); len(found) > 0 || strings.Contains(said, "hushhush") || strings.Contains(said, "avk_live_") {
		w.t.Errorf("avouch %v shows %v: %s", argv, found, said)
	}
}

// superusersWrite is what a superuser writes into the tables of a vault, past all nets.
type superusersWrite struct {
	name, sql string
}

// putBack gives items the rows that they had.
func putBack(from string) string {
	const columns = `(kind, about, secret, secret_version, counter, taken, policy, listed, creator_kind, creator, version)`
	return `UPDATE avouch.vault_item i SET ` + columns + ` = (SELECT ` + strings.Trim(columns, "()") + ` FROM ` + from + ` o WHERE o.item_id = i.item_id) WHERE EXISTS (SELECT FROM ` + from + ` o WHERE o.item_id = i.item_id)`
}

// TestSuperuserWritesIntoVault: what an item keeps, what narrows its use, and whom it is granted to is compared with the log: altered by a
// superuser, it is used by nobody, and the organisation and the operator are told.
func TestSuperuserWritesIntoVault(t *testing.T) {
	t.Parallel()
	w := shared(t)
	s := w.serve(w.databaseURL)
	h := w.holderOf(s.url, w.owner, w.ownerKey)
	other := w.holderOf(s.url, w.owner, w.ownerKey) // what is granted to another agent
	id := func(item string) string { return "'" + strings.TrimPrefix(item, vaultItems+"/") + "'" }
	mine, theirs := id(h.items["totp"]), id(other.items["totp"])
	want(t, http.StatusOK, http.MethodPatch, s.url+other.items["totp"], w.ownerKey, map[string]any{"policy": map[string]any{"approval": true}}, nil, "If-Match", "*")
	w.past(`CREATE TABLE public.old AS SELECT * FROM avouch.vault_item`)
	want(t, http.StatusOK, http.MethodPut, s.url+h.items["totp"]+"/secret", w.ownerKey, map[string]any{"secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}, nil, "If-Match", "*")
	w.past(`CREATE TABLE public.now AS SELECT * FROM avouch.vault_item`)
	all := []superusersWrite{
		{"an older row put back whole", putBack("public.old") + ` AND i.item_id = ` + mine},
		{"another item's secret", `UPDATE avouch.vault_item SET secret = o.secret, secret_version = o.secret_version FROM public.now o WHERE vault_item.item_id = ` + mine + ` AND o.item_id = ` + theirs},
		{"another item under this id", `UPDATE avouch.vault_item i SET about = o.about, secret = o.secret, secret_version = o.secret_version, version = o.version, policy = o.policy
			FROM public.now o WHERE i.item_id = ` + mine + ` AND o.item_id = ` + theirs},
		{"a policy that asks for less", `UPDATE avouch.vault_item SET policy = '{"uses": ""}' WHERE item_id = ` + mine + `; UPDATE avouch.vault_item SET policy = '{"approval": true}' WHERE item_id = ` + mine},
		{"another creator", `UPDATE avouch.vault_item SET creator = 'mallory' WHERE item_id = ` + mine},
		{"listed", `UPDATE avouch.vault_item SET listed = NOT listed WHERE item_id = ` + mine},
		{"one bit of the secret", `UPDATE avouch.vault_item SET secret = set_bit(secret, 8 * length(secret) - 3, 1 - get_bit(secret, 8 * length(secret) - 3)) WHERE item_id = ` + mine},
		{"the kind", `UPDATE avouch.vault_item SET kind = 'steam' WHERE item_id = ` + mine},
		{"a grant", `INSERT INTO avouch.vault_grant (tenant_id, grant_id, item_id, kind, grantee, level, granted_by, granted_at)
			VALUES ('` + w.owner + `', gen_random_uuid(), ` + mine + `, 'agent', '` + other.agent + `', 'code', 'person:nobody', now())`},
	}
	s.end(syscall.SIGTERM)
	for _, write := range all {
		w.past(write.sql)
		s := w.serve(w.databaseURL) // which remembers nothing
		colluder, err := ask(http.MethodPost, s.url+h.items["totp"]+"/code", other.token, nil)
		must(t, err)
		owner, err := ask(http.MethodPost, s.url+h.items["totp"]+"/code", w.ownerKey, nil)
		must(t, err)
		if owner.status != http.StatusServiceUnavailable || !strings.Contains(string(owner.body), "not what the log says") || colluder.status < 400 {
			t.Errorf("%s: the owner is answered %d %s, and a colluding agent %d %s", write.name, owner.status, owner.body, colluder.status, colluder.body)
		}
		raised, err := w.admin.Texts(t.Context(), `SELECT kind FROM avouch.incident WHERE kind = 'vault.altered' AND tenant_id = $1`, w.owner)
		if must(t, err); len(raised) == 0 {
			t.Errorf("%s: nobody is told", write.name)
		}
		s.end(syscall.SIGTERM)
		w.past(putBack("public.now") + `; DELETE FROM avouch.vault_grant WHERE granted_by = 'person:nobody'; DELETE FROM avouch.incident WHERE kind = 'vault.altered'`)
	}
	s = w.serve(w.databaseURL)
	want(t, http.StatusOK, http.MethodPost, s.url+h.items["totp"]+"/code", w.ownerKey, nil, nil)
}
