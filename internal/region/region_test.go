package region

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is a file with mode 0600 in dir.
func written(t testing.TB, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestMailStaysInItsRegion runs three real servers: of Europe, of America, and of organisations without a region. The mail
// of each organisation arrives at its own alone, with that one's own account; a region without a server has none of them.
func TestMailStaysInItsRegion(t *testing.T) {
	t.Parallel()
	servers := map[string]*mailtest.Server{}
	for _, name := range []string{"eu", "us", ""} {
		servers[name] = (&mailtest.Server{StartTLS: true, Auth: true}).Start(t)
	}
	dir := t.TempDir()
	one := func(name string) string {
		written(t, dir, name+"-password", name+"-secret\n")
		return fmt.Sprintf(`{"mail": {"server": %q, "from": "Avouch <avouch@%s.example>", "user": %q, "password_file": %q, "tls": "starttls", "ca_file": %q}}`,
			servers[name].Address, name, name+"-mailer", name+"-password", servers[name].CAFile)
	}
	file := written(t, dir, "regions.json", `{"eu": `+one("eu")+`, "us": `+one("us")+`, "silent": {}}`)
	anywhere, err := mail.NewSMTP(mail.Config{Server: servers[""].Address, From: "avouch@any.example", User: "any", Password: secret.Text("any"), TLS: "starttls", CAFile: servers[""].CAFile})
	must(t, err)
	senders, err := Open(file, Anywhere{Mail: anywhere})
	must(t, err)

	d := doortest.Open(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, &mail.Worker{
		Route: func(_ context.Context, j mail.Job) (mail.Sender, error) {
			return senders.Mail(d.Text(t, "SELECT region FROM avouch.organisation WHERE tenant_id = $1", j.Tenant))
		},
		Resolve: func(_ context.Context, j mail.Job) (string, any, error) {
			return "ada@example.com", mail.IncidentData{Organisation: j.IDs["incident"]}, nil
		},
	})
	stop, err := d.DB.StartJobs(t.Context(), d.Log, workers, nil)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := stop(ctx); err != nil {
			t.Error(err)
		}
	})
	tenants := map[string]tenantdb.TenantID{}
	for _, region := range []string{"eu", "us", "", "silent", "gone"} {
		tenants[region] = d.Tenant(t, "of "+region)
		must(t, d.DB.Change(t.Context(), tenantdb.System(tenants[region], "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
			if _, err := tx.Exec(t.Context(), "UPDATE avouch.organisation SET region = $1", region); err != nil {
				return audit.Event{}, err
			}
			job := mail.Job{Tenant: tenants[region].String(), Template: mail.Incident, IDs: map[string]string{"incident": "of " + region}}
			return audit.Event{Type: "mail.wanted"}, tx.Enqueue(t.Context(), job)
		}))
	}
	const open = `SELECT count(*)::text FROM avouch_jobs.river_job WHERE state IN ('available', 'running', 'scheduled')`
	for deadline := time.Now().Add(30 * time.Second); d.Text(t, open) != "0" && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	for name, s := range servers {
		all := s.Received()
		account := map[string]string{"": "any\x00any"}[name]
		if name != "" {
			account = name + "-mailer\x00" + name + "-secret"
		}
		want := "PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+account))
		if len(all) != 1 || !strings.Contains(all[0].Data, "Something is wrong at of "+name+":") || all[0].User != want || !all[0].Encrypted {
			t.Errorf("the server of %q received %+v, want the account %q", name, all, want)
		}
	}
	refused := d.Text(t, `SELECT string_agg(errors[1]->>'error', E'\n' ORDER BY id) FROM avouch_jobs.river_job WHERE state = 'retryable'`)
	if strings.Count(refused, "\n") != 1 || !strings.Contains(refused, `the region "silent" has no mail,`) || !strings.Contains(refused, `no region "gone"`) {
		t.Errorf("refused: %s", refused)
	}
}

// TestTextsStayInTheirRegion has a provider for each of two regions, with credentials of their own: a message is sent by its region's
// alone.
func TestTextsStayInTheirRegion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := map[string]*[]string{}
	regions := map[string]any{"silent": map[string]any{}}
	for _, name := range []string{"eu", "us"} {
		var got []string
		told[name] = &got
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = append(got, r.Header.Get("Authorization")+" "+string(body))
		}))
		t.Cleanup(s.Close)
		written(t, dir, name+"-headers", "Authorization: Bearer of-"+name+"\n")
		regions[name] = map[string]any{"sms": map[string]string{"provider": "http", "url": s.URL, "body": "to={to}&text={text}", "headers_file": name + "-headers"}}
	}
	b, err := json.Marshal(regions)
	must(t, err)
	senders, err := Open(written(t, dir, "regions.json", string(b)), Anywhere{})
	must(t, err)
	for _, name := range []string{"eu", "us"} {
		sender, err := senders.SMS(name)
		must(t, err)
		must(t, sender.Send(t.Context(), sms.Message{To: "+49301234567", Text: "for-" + name}))
	}
	for name, got := range told {
		if want := "Bearer of-" + name + " text=for-" + name + "&to=%2B49301234567"; len(*got) != 1 || (*got)[0] != want {
			t.Errorf("%s was told %q, want %q", name, *got, want)
		}
	}
	if sender, err := senders.SMS("silent"); sender != nil || !errors.Is(err, sms.ErrNoSender) {
		t.Errorf("a region without a provider: %v, %v", sender, err)
	}
	must(t, os.Chmod(filepath.Join(dir, "eu-headers"), 0o644))
	if _, err := Open(filepath.Join(dir, "regions.json"), Anywhere{}); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("credentials that others can read: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	box := mail.NewInbox("/inbox", time.Now)
	file := written(t, t.TempDir(), "regions.json", `{"eu": {"mail": {"server": "127.0.0.1:25", "from": "a@eu.example"}, "sms": {"provider": "http", "url": "http://127.0.0.1:1/", "body": "a={to}&b={text}"}}, "silent": {}}`)
	with, err := Open(file, Anywhere{Mail: box, SMS: sms.Caught(box)})
	must(t, err)
	without, err := Open(file, Anywhere{})
	must(t, err)
	none, err := Open("", Anywhere{})
	must(t, err)
	for name, c := range map[string]struct {
		s      *Senders
		region string
		sends  bool
	}{
		"no region, and a sender for those":    {with, "", true},
		"no region, and no sender for those":   {without, "", false},
		"a region":                             {with, "eu", true},
		"a region, and none for the others":    {without, "eu", true},
		"a region without a sender":            {with, "silent", false},
		"a region that is not there":           {with, "us", false},
		"a region in other letters":            {with, "EU", false},
		"a region, where there are no regions": {none, "eu", false},
	} {
		sender, err := c.s.Mail(c.region)
		if (sender != nil) != c.sends || (err == nil) != c.sends || err != nil && !errors.Is(err, mail.ErrNoSender) {
			t.Errorf("%s: %v, %v", name, sender, err)
		}
		texter, err := c.s.SMS(c.region)
		if (texter != nil) != c.sends || (err == nil) != c.sends || err != nil && !errors.Is(err, sms.ErrNoSender) {
			t.Errorf("%s: %v, %v", name, texter, err)
		}
		if c.region != "" && (sender == mail.Sender(box) || texter == sms.Caught(box)) {
			t.Errorf("%s: sent by the sender of organisations without a region", name)
		}
	}
	if got := strings.Join(with.Names(), " "); got != "eu silent" || !with.Known("eu") || !with.Known("") || with.Known("us") {
		t.Errorf("known: %s", got)
	}
}

// TestCredentialsAreSeparate: what one region's provider is shown opens nothing at another's, whatever file it was copied to.
func TestCredentialsAreSeparate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, "one", "hunter2\n")
	written(t, dir, "copy", "hunter2")
	written(t, dir, "two", "hunter3")
	written(t, dir, "header-one", "# of Europe\nAuthorization: Bearer hunter2\nAccept: application/json\n")
	written(t, dir, "header-copy", "accept: application/json\nauthorization:  Bearer hunter2\n")
	written(t, dir, "header-two", "Authorization: Bearer hunter3\nAccept: application/json\n")
	written(t, dir, "key-one", "X-Api-Key: hunter2\n")
	const a, b = "AC00000000000000000000000000000001", "AC00000000000000000000000000000002"
	own := &sms.Config{Provider: "twilio", Account: "AC00000000000000000000000000000003", TokenFile: filepath.Join(dir, "two"), From: "+15550001"}
	for says, c := range map[string]struct {
		eu, us object
		from   Region
		shared string // "" is nothing
	}{
		"mail of their own":                   {eu: mailed("m.eu.example", "avouch", "one"), us: mailed("m.us.example", "avouch", "two")},
		"one file of a password":              {eu: mailed("m.eu.example", "avouch", "one"), us: mailed("m.us.example", "avouch", "one"), shared: "password"},
		"a copy of the password":              {eu: mailed("m.eu.example", "avouch", "one"), us: mailed("m.us.example", "avouch", "copy"), shared: "password"},
		"one account of mail":                 {eu: mailed("m.example", "avouch", "one"), us: mailed("M.example", "avouch", "two"), shared: "user"},
		"accounts of their own":               {eu: twilio(a, "one"), us: twilio(b, "two")},
		"keys of their own":                   {eu: twilio(a+"/SK00000000000000000000000000000001", "one"), us: twilio(a+"/SK00000000000000000000000000000002", "two")},
		"one account":                         {eu: twilio(a, "one"), us: twilio(a, "two"), shared: "account"},
		"one token":                           {eu: twilio(a, "one"), us: twilio(b, "copy"), shared: "token"},
		"headers of their own":                {eu: gateway("header-one"), us: gateway("header-two")},
		"a header in common":                  {eu: gateway("header-one"), us: gateway("header-copy"), shared: "header Authorization"},
		"a password of one, a token of other": {eu: mailed("m.eu.example", "avouch", "one"), us: twilio(b, "copy"), shared: "token"},
		"a key in a header":                   {eu: gateway("key-one"), us: twilio(b, "copy"), shared: "token"},
		"one provider of both, in one region": {eu: object{"mail": mailed("m.eu.example", "avouch", "one")["mail"], "sms": gateway("key-one")["sms"]}, us: twilio(b, "two")},
		"the installation's own password": {
			eu: mailed("m.eu.example", "avouch", "two"), us: mailed("m.us.example", "avouch", "one"), shared: "password",
			from: Region{Mail: &mail.Config{Server: "m.any.example:587", User: "any", Password: secret.Text("hunter2")}},
		},
		"the installation's own token":       {eu: twilio(a, "one"), us: twilio(b, "two"), shared: "token", from: Region{Mail: &mail.Config{}, SMS: own}},
		"an installation with its own":       {eu: twilio(a, "one"), us: gateway("header-one"), from: Region{Mail: &mail.Config{}, SMS: own}},
		"an installation that sends nothing": {eu: twilio(a, "one"), us: twilio(b, "two"), from: Region{Mail: &mail.Config{}, SMS: &sms.Config{}}},
	} {
		text, err := json.Marshal(object{"eu": c.eu, "us": c.us})
		must(t, err)
		_, err = Open(written(t, dir, "regions.json", string(text)), Anywhere{From: c.from})
		if c.shared == "" && err != nil || c.shared != "" && (err == nil || !strings.Contains(err.Error(), "the "+c.shared+" is that of ")) {
			t.Errorf("%s: %v", says, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), a)) {
			t.Errorf("%s: a credential in %v", says, err)
		}
	}
}

type object = map[string]any

func mailed(server, user, password string) object {
	return object{"mail": object{"server": server + ":587", "from": "a@b.example", "user": user, "password_file": password}}
}

func twilio(account, token string) object {
	return object{"sms": object{"provider": "twilio", "account": account, "token_file": token, "from": "+15550001"}}
}

func gateway(headers string) object {
	return object{"sms": object{"provider": "http", "url": "https://sms.example/", "body": "to={to}&text={text}", "headers_file": headers}}
}

// TestFilesArePrivate gives others a right to each file in turn.
func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	password := written(t, dir, "password", "hunter2")
	file := written(t, dir, "regions.json", `{"eu": {"mail": {"server": "mail.eu.example:587", "from": "a@eu.example", "user": "u", "password_file": "password"}}}`)
	if _, err := Open(file, Anywhere{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{password, file} {
		must(t, os.Chmod(f, 0o640))
		if _, err := Open(file, Anywhere{}); err == nil || !strings.Contains(err.Error(), "0640") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s can be read by others: %v", f, err)
		}
		must(t, os.Chmod(f, 0o600))
	}
	for name, text := range map[string]string{
		"a password that is not there": `{"eu": {"mail": {"server": "mail.eu.example:587", "from": "a@eu.example", "user": "u", "password_file": "nowhere"}}}`,
		"a user without a password":    `{"eu": {"mail": {"server": "mail.eu.example:587", "from": "a@eu.example", "user": "u"}}}`,
		"a password in the clear":      `{"eu": {"mail": {"server": "127.0.0.1:25", "from": "a@eu.example", "user": "u", "password_file": "password"}}}`,
		"mail in the clear":            `{"eu": {"mail": {"server": "mail.eu.example:25", "from": "a@eu.example", "tls": "none"}}}`,
	} {
		if _, err := Open(written(t, dir, "bad.json", text), Anywhere{}); err == nil || !strings.Contains(err.Error(), "eu") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "missing.json"), Anywhere{}); err == nil {
		t.Error("regions that are not there were read")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	all, err := Parse([]byte(`{
		"eu": {"mail": {"server": "m:1", "from": "a@b", "user": "u", "password_file": "p", "tls": "tls", "ca_file": "c"}},
		"us-east-1": {"mail": {"server": "m:2", "from": "a@c"}}, "none": {}
	}`))
	must(t, err)
	if len(all) != 3 || all["none"].Mail != nil || all["us-east-1"].Mail.Server != "m:2" {
		t.Errorf("read %+v", all)
	}
	if m := *all["eu"].Mail; m != (mail.Config{Server: "m:1", From: "a@b", User: "u", PasswordFile: "p", TLS: "tls", CAFile: "c"}) {
		t.Errorf("mail is %+v", m)
	}
	for text, want := range map[string]string{
		``: "one JSON object", `[]`: "one JSON object", `null`: "one JSON object", `{`: "one JSON object", `{"eu": {}`: "one JSON object", `{} {}`: "one JSON object", `{"eu": {}} x`: "one JSON object",
		`{"eu": null}`: "eu: is not one", `{"eu": "x"}`: "eu: is not one", `{"eu": {}, "eu": {}}`: "twice", "{\"\xff\": {}}": "UTF-8",
		`{"": {}}`: "name of a region", `{"EU": {}}`: "name of a region", `{"e u": {}}`: "name of a region", `{"-eu": {}}`: "name of a region", `{"` + strings.Repeat("e", 33) + `": {}}`: "name of a region",
		`{"eu": {"kms": {}}}`: "eu: kms", `{"eu": {"objects": null}}`: "eu: objects", `{"eu": {"Mail": {}}}`: `eu: "Mail" is not known`, `{"eu": {"mail": null}}`: "eu: mail: is not one",
		`{"eu": {"mail": {}}}`: "server is missing", `{"eu": {"mail": {"server": "m:1"}}}`: "from is missing", `{"eu": {"mail": {"server": 1, "from": "a@b"}}}`: "server is not a text",
		`{"eu": {"mail": {"server": null, "from": "a@b"}}}`: "server is not a text", `{"eu": {"mail": {"server": "m:1", "Server": "m:2", "from": "a@b"}}}`: `"Server" is not known`,
		`{"eu": {"mail": {"server": "m:1", "server": "m:2", "from": "a@b"}}}`: "twice", `{"eu": {"mail": {"server": "m:1", "from": "a@b", "password": "hunter2"}}}`: `"password" is not known`,
		`{"eu": {"mail": {"server": "m:1", "from": ["hunter2"]}}}`: "from is not a text",
		`{"eu": {"sms": {}}}`: "provider is missing", `{"eu": {"sms": {"provider": "http", "token": "hunter2"}}}`: `"token" is not known`,
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: what is taken has nothing that was not read, and its regions can be named in a column of 32 characters.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"eu": {}}`, `{"eu": {"mail": {"server": "m:1", "from": "a@b", "tls": "tls"}}, "us": {}}`, `{"eu":{"kms":1}}`, `{"a":{"a":{}}`, "{\"\\u0000\":{}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := Parse(b)
		if err != nil {
			if len(all) != 0 {
				t.Errorf("%q: %v and %v", b, all, err)
			}
			return
		}
		for name, r := range all {
			if name == "" || len(name) > 32 || strings.ToLower(name) != name {
				t.Errorf("a region %q", name)
			}
			if r.Mail != nil && (r.Mail.Server == "" || r.Mail.From == "" || !r.Mail.Password.IsZero()) {
				t.Errorf("mail without a server or sender: %+v", r.Mail)
			}
		}
	})
}
