package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDevScripts runs the commands against `avouch dev`, as somebody who tries Avouch does.
func TestDevScripts(t *testing.T) {
	t.Parallel()
	dir, r := startDev(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/dev", RequireExplicitExec: true, RequireUniqueNames: true, Cmds: commands(),
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"TZ": "UTC", "AVOUCH_URL": r.URL, "OWNER_KEY": r.OwnerKey, "SERVICE_OWNER_KEY": r.ServiceOwnerKey, "SERVICE_KEY": r.ServiceKey, "AGENT": r.AgentID,
				"AGENT_TOKEN": r.AgentToken, "TENANT": r.TenantID, "SERVICE_TENANT": r.ServiceTenantID, "DATABASE_URL": r.DatabaseURL, "ADMIN_URL": r.AdminDatabaseURL,
				"PLATFORM_KEY_FILE": filepath.Join(dir, "keys", "platform.key"), "KEY_STORE": filepath.Join(dir, "keystore"), "AVOUCH_API_KEY": r.OwnerKey,
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
