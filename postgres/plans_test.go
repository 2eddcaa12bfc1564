package postgres

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var constant = regexp.MustCompile(`constvalue \d+ \[([^\]]*)\]`)

// TestPlansHideThePepper: a caller may have the plans of all statements inside a function printed, with values of variables.
func TestPlansHideThePepper(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		d.exec("SELECT avouch_keys.rotate_pepper()")
		cfg, err := pgx.ParseConfig(d.url("authenticator"))
		if err != nil {
			t.Fatal(err)
		}
		var printed strings.Builder
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			for _, m := range constant.FindAllStringSubmatch(n.Detail, -1) {
				for f := range strings.FieldsSeq(m[1]) {
					b, _ := strconv.Atoi(f)
					fmt.Fprintf(&printed, "%02x", byte(b))
				}
			}
		}
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "SET client_min_messages = log; SET debug_print_plan = on"); err != nil {
			t.Fatal(err)
		}
		first, id := d.makeKey("u1", "'old', 'reader'")
		d.exec("SELECT avouch_keys.rotate_pepper()")
		for range 2 {
			for _, r := range []request{session("u1"), withKey(first)} {
				if _, err := d.send(conn, r, "SELECT avouch_keys.create_key('x', 'reader')", "SELECT avouch_keys.has_permission('read_notes'), avouch_keys.current_api_key()", notes); err != nil {
					t.Fatal(err)
				}
			}
			d.exec("UPDATE avouch_keys.verifier SET last_used_at = NULL")
		}
		if _, err := d.send(conn, session("u1"), "SELECT avouch_keys.rotate_key('"+id+"', '1 day')", "SELECT avouch_keys.revoke_key('"+id+"')"); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(printed.String(), hex.EncodeToString([]byte("key.created"))) {
			t.Fatal("no plan was printed: the test tests nothing")
		}
		for i, secret := range strings.Split(d.ask("SELECT encode(substr(blocks, n, 32), 'hex') FROM avouch_keys.pepper, unnest(ARRAY[1, 129, 257, 385]) AS n"), "\n") {
			if strings.Contains(printed.String(), secret[:16]) {
				t.Errorf("block %d of a pepper was printed for its caller", i)
			}
		}
	})
}
