package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/server"
)

// TestRegions signs up organisations of two regions, of one without a mail server, and of none: the invitation of each owner arrives
// at the mail server of the organisation's region and nowhere else, and that of the one without stays where it is.
func TestRegions(t *testing.T) {
	t.Parallel()
	in := install(t)
	servers := map[string]*mailtest.Server{}
	regions := map[string]any{"silent": map[string]any{}}
	for _, name := range []string{"eu", "us", ""} {
		servers[name] = (&mailtest.Server{StartTLS: true}).Start(t)
		if name != "" {
			regions[name] = map[string]any{"mail": map[string]string{
				"server": servers[name].Address, "from": "avouch@" + name + ".example", "tls": "starttls", "ca_file": servers[name].CAFile,
			}}
		}
	}
	file := filepath.Join(t.TempDir(), "regions.json")
	b, err := json.Marshal(regions)
	must(t, err)
	must(t, os.WriteFile(file, b, 0o600))
	n := in.start(t, func(c *server.Config) {
		c.SignUp, c.RegionsFile = true, file
		c.Mail = mail.Config{Server: servers[""].Address, From: "avouch@any.example", TLS: "starttls", CAFile: servers[""].CAFile}
	})
	owner := func(region string) string { return "owner-" + region + "@example.com" }
	for _, region := range []string{"eu", "us", "", "silent"} {
		n.call(t, http.MethodPost, "/api/v1/organisations", "", map[string]any{"name": "Acme", "owner_address": owner(region), "region": region}).want(t, http.StatusCreated)
	}
	n.call(t, http.MethodPost, "/api/v1/organisations", "", map[string]any{"name": "Acme", "region": "moon"}).want(t, http.StatusBadRequest)

	admin, err := Connect(t.Context(), in.pg.AdminURL)
	must(t, err)
	t.Cleanup(admin.Close)
	var states []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		states, err = admin.Texts(t.Context(), `SELECT state::text || ' ' || coalesce(errors[1]->>'error', '') FROM avouch_jobs.river_job
			WHERE kind = 'mail.send' AND args->>'template' = 'invitation' ORDER BY state::text`)
		must(t, err)
		if len(states) == 4 && !strings.Contains(strings.Join(states, "\n"), "available") && !strings.Contains(strings.Join(states, "\n"), "running") {
			break
		}
	}
	if len(states) != 4 || !strings.HasPrefix(states[3], "retryable") || !strings.Contains(states[3], `the region "silent" has no mail`) {
		t.Errorf("the jobs are %q", states)
	}
	for region, s := range servers {
		all := s.Received()
		if len(all) != 1 || !strings.Contains(all[0].To, "<"+owner(region)+">") || !all[0].Encrypted {
			t.Errorf("the server of %q received %+v", region, all)
		}
	}
}
