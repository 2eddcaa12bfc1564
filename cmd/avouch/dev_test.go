package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/avouch-dev/avouch/server"
)

// TestDevScripts runs the commands against `avouch dev`, as somebody who tries Avouch does.
func TestDevScripts(t *testing.T) {
	t.Parallel()
	dir, r := startDev(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/dev", RequireExplicitExec: true, RequireUniqueNames: true, Cmds: commands(),
		Condition: func(name string) (bool, error) { return name == "ipv6" && hasIPv6(), nil },
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"TZ": "UTC", "AVOUCH_URL": r.URL, "OWNER_KEY": r.OwnerKey, "SERVICE_OWNER_KEY": r.ServiceOwnerKey, "SERVICE_KEY": r.ServiceKey, "AGENT": r.AgentID, "DEMO_ITEM": r.VaultItemID,
				"AGENT_TOKEN": r.AgentToken, "TENANT": r.TenantID, "SERVICE_TENANT": r.ServiceTenantID, "DATABASE_URL": r.DatabaseURL, "ADMIN_URL": r.AdminDatabaseURL,
				"PLATFORM_KEY_FILE": filepath.Join(dir, "keys", "platform.key"), "KEY_STORE": filepath.Join(dir, "keystore"), "AVOUCH_API_KEY": r.OwnerKey,
				"OWNER_ADDRESS": r.OwnerAddress, "OWNER_PASSWORD": r.OwnerPassword,
			} {
				env.Setenv(name, value)
			}
			return nil
		},
	})
}

// startDev starts `avouch dev` in a directory that PostgreSQL's own user can reach, and stops it in the end.
func startDev(t *testing.T) (data string, r ready) {
	t.Helper()
	dir, err := os.MkdirTemp("", "avouch-dev-")
	if err != nil {
		t.Fatal(err)
	}
	data = filepath.Join(dir, "data")
	cmd := exec.Command("avouch", "dev", "--dir", data, "--listen", "127.0.0.1:0", "--json")
	cmd.Env = append(os.Environ(), "AVOUCH_KEYS_PER_OWNER=7", "AVOUCH_VAULT_NETWORKS=127.0.0.1/32")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() }) // it may have ended by then
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			said, _ := os.ReadFile(log.Name())
			t.Errorf("avouch dev ended with %v: %s", err, said)
		}
		if said, _ := os.ReadFile(log.Name()); t.Failed() { // a script shows what a command was answered, and not why
			t.Logf("the end of the log of avouch dev: %s", said[max(0, len(said)-64<<10):])
		}
		late.Stop()
		log.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("avouch dev is not ready: %v: %s", err, said)
	}
	return data, r
}

// TestDevHonoursVariables: what serve's variables say holds for dev as well, whatever they are, but for what dev decides itself.
func TestDevHonoursVariables(t *testing.T) {
	own := []string{
		"Listen", "DatabaseURL", "PlatformKeyFile", "PlatformKey", "KeyStore", "PublicURL", "TLSCertFile", "TLSKeyFile", "SignUp", "TenantQuota", "ServiceQuota",
		"OperatorEmail", "Mail", "SMS",
	}
	fields := reflect.TypeFor[server.Config]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("env"); name != "" {
			t.Setenv(name, "3") // a number, a text, a list
		}
	}
	t.Setenv("AVOUCH_SIGN_UP", "false")
	t.Setenv("AVOUCH_MAIL_SERVER", "mail.example:25")
	t.Setenv("AVOUCH_SMS_PROVIDER", "twilio")
	served, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&devCmd{Dir: "there", Listen: "127.0.0.1:0"}).config("postgres://there", "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	honoured := 0
	for i := range fields.NumField() {
		f := fields.Field(i)
		if f.Tag.Get("env") == "" && f.Name != "Mail" && f.Name != "SMS" {
			continue
		}
		same := reflect.DeepEqual(reflect.ValueOf(served).Field(i).Interface(), reflect.ValueOf(got).Field(i).Interface())
		if same == slices.Contains(own, f.Name) {
			t.Errorf("%s of serve is %v, of dev %v", f.Name, reflect.ValueOf(served).Field(i), reflect.ValueOf(got).Field(i))
		}
		if same {
			honoured++
		}
	}
	if honoured < 15 || got.KeysPerOwner != 3 || got.GitHubKeysFile != "3" || got.PepperFile != "3" || !got.Development {
		t.Errorf("%d are honoured: %+v", honoured, got)
	}
}
