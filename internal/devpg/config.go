package devpg

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Superuser is the role that owns a cluster.
const Superuser = "postgres"

// Config says which cluster to run, and how.
type Config struct {
	Dir      string            // the cluster's directory, made if it is missing
	Binaries Binaries          // zero: those that Find, or the cluster's version, calls for
	Logger   *slog.Logger      // nil: silent
	Settings map[string]string // of postgresql.conf, over the defaults of this package
	NoFSync  bool              // a crash of the machine may lose the cluster: for tests only
	OSUser   string            // as whom a new cluster runs when we are root; "": postgres, or else nobody
	Roles    []string          // more roles that the caller may connect as, beside postgres, avouch_server, avouch_owner
	HBA      []string          // more lines for pg_hba.conf, for instance for TLS
}

// baseSettings are fixed here rather than left to initdb, which guesses them from the machine. Messages leave out the
// statement and the values of a failed one: a log must not hold what a table does.
func baseSettings() map[string]string {
	return map[string]string{
		"cluster_name":               "avouch",
		"listen_addresses":           "",
		"max_connections":            "200",
		"shared_buffers":             "128MB",
		"fsync":                      "on",
		"full_page_writes":           "on",
		"synchronous_commit":         "on",
		"wal_level":                  "replica",
		"jit":                        "off",
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
		"datestyle":                  "iso, mdy",
		"lc_messages":                "C",
		"default_text_search_config": "pg_catalog.simple",
		"log_line_prefix":            "%m [%p] ",
		"log_checkpoints":            "off",
		"log_error_verbosity":        "terse",
		"log_min_error_statement":    "panic",
	}
}

var settingName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$`)

// conf is the text of postgresql.conf.
func (c Config) conf(socketDir string) (string, error) {
	all := baseSettings()
	if c.NoFSync {
		all["fsync"], all["full_page_writes"] = "off", "off"
	}
	maps.Copy(all, c.Settings)
	all["unix_socket_directories"], all["unix_socket_permissions"], all["port"] = socketDir, "0700", "5432"
	text := "# Written by avouch at each start. To change a setting: ALTER SYSTEM SET ... and restart.\n"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if !settingName.MatchString(name) || strings.ContainsAny(value, "\n\r\x00") {
			return "", fmt.Errorf("devpg: not a setting: %.60q", name)
		}
		text += name + " = '" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value) + "'\n"
	}
	return text, nil
}

// ident is the text of pg_ident.conf: who may connect as whom.
func (c Config) ident(caller string) (string, error) {
	text := "# Written by avouch at each start.\n"
	for _, role := range append([]string{Superuser, "avouch_server", "avouch_owner"}, c.Roles...) {
		if strings.ContainsAny(caller+role, "\"\n\r") || strings.HasPrefix(caller, "/") || strings.HasPrefix(role, "/") {
			return "", fmt.Errorf("devpg: cannot map OS user %q to role %q", caller, role)
		}
		text += fmt.Sprintf("avouch \"%s\" \"%s\"\n", caller, role)
	}
	return text, nil
}

// hba is the text of pg_hba.conf: nobody gets in but through the map.
func (c Config) hba() string {
	lines := []string{"# Written by avouch at each start.", "local all all peer map=avouch", "local replication " + Superuser + " peer map=avouch"}
	return strings.Join(append(lines, c.HBA...), "\n") + "\n"
}

// configure writes the cluster's configuration, whole: what is in the directory never depends on an older version of us.
func (c Config) configure(p place, acc account, socketDir string) error {
	caller, err := callerName()
	if err != nil {
		return err
	}
	conf, err := c.conf(socketDir)
	if err != nil {
		return err
	}
	ident, err := c.ident(caller)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"postgresql.conf": conf, "pg_ident.conf": ident, "pg_hba.conf": c.hba()} {
		if err := replace(filepath.Join(p.data(), name), text, acc); err != nil {
			return fmt.Errorf("devpg.configure: %w", err)
		}
	}
	return nil
}

// replace puts a new file in an old one's place. It never opens the old one: the directory is the server user's, who
// could have put a link there for root to follow.
func replace(path, text string, acc account) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	if err == nil && acc.switched {
		err = f.Chown(int(acc.uid), int(acc.gid))
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
