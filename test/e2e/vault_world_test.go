package e2e

import (
	"context"
	"encoding/json"

	"github.com/avouch-dev/avouch/audit"
)

func decoded(b []byte, into any) bool { return json.Unmarshal(b, into) == nil }

// fieldOf is a public field of an entry.
func fieldOf(e audit.Entry, name string) string {
	for _, f := range e.Public {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// whoKey is where a request's context says whose it is.
type whoKey struct{}

func withWho(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, whoKey{}, who)
}

// past runs a statement as a superuser who switches off the nets under the tables of the schema, and on again.
func (w *world) past(sql string) {
	w.t.Helper()
	_, err := w.admin.Exec(w.t.Context(), `DO $do$ DECLARE g record; back text[]; s text; BEGIN
  FOR g IN SELECT tgrelid::regclass AS t, tgname AS n FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
    WHERE c.relnamespace = 'avouch'::regnamespace AND tgenabled = 'A' AND c.relname !~ '^audit_' AND tgparentid = 0 LOOP
    back := back || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', g.t, g.n);
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', g.t, g.n);
  END LOOP;
  `+sql+`;
  FOREACH s IN ARRAY back LOOP EXECUTE s; END LOOP;
END $do$`)
	must(w.t, err)
}
