package vault

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

func (r *Room) portRoutes(api *web.API[tenantdb.Caller]) {
	in := op("import-vault", http.MethodPost, "/api/v1/vault/import", "vault:write", "Import from another program",
		"All of it or nothing. What the vault has already is a duplicate, and left out, if you put it in or could export it; of all else nothing is told. Look at a `dry_run` first: it keeps nothing.")
	in.MaxBody, in.Timeout, in.Fails = 2*portable.MostBytes, 2*time.Minute, map[int]string{http.StatusConflict: onlyWay}
	web.Handle(api, in, r.importAll)
	out := op("export-vault", http.MethodPost, "/api/v1/vault/export", "vault:code", "Export secrets for another program",
		"For a person who proved themselves in the last five minutes, with the level `seed` on each item, and a reason. It is in the log, and every owner is told. "+
			"Encrypted for age recipients or under a passphrase, or in clear where you say so. Where the format cannot hold one of the items nothing is exported: all of them are in `avouch`.")
	out.Timeout = time.Minute // it may wait for its turn
	web.Handle(api, out, r.exportAll)
}

type importInput struct {
	Body struct {
		Format   portable.Format `json:"format,omitempty" enum:"uri,qr,aegis,2fas,bitwarden,csv,avouch,age" doc:"Guessed if absent"`
		Data     secret.String   `json:"data" minLength:"1" doc:"The text; of a picture or an encrypted file base64, which encoding says"`
		Encoding string          `json:"encoding,omitempty" enum:"text,base64" doc:"text by default; a picture is base64 always"`
		More     []importPart    `json:"more,omitempty" maxItems:"99" doc:"Other files that belong to it, in any order, where all are pictures or lines of addresses: the batches of an export of Google Authenticator"`
		Password secret.String   `json:"password,omitempty" doc:"Of an encrypted file"`
		Folder   string          `json:"folder,omitempty" maxLength:"200" doc:"For what has none"`
		DryRun   bool            `json:"dry_run,omitempty"`
	}
}

type importPart struct {
	Data     secret.String `json:"data" minLength:"1"`
	Encoding string        `json:"encoding,omitempty" enum:"text,base64" doc:"text by default; a picture is base64"`
}

type importedView struct {
	Name      string `json:"name"`
	Kind      Kind   `json:"type" enum:"totp,hotp,steam,codes,secret"`
	Duplicate bool   `json:"duplicate" doc:"You put it into the vault already, or could export it, or it is there twice: left out"`
	Item      *ID    `json:"item_id" nullable:"true" doc:"Null in a dry run, and of a duplicate"`
}

type faultView struct {
	Place string `json:"place"`
	Why   string `json:"why"`
}

type importOutput struct {
	Body struct {
		Format portable.Format `json:"format"`
		DryRun bool            `json:"dry_run"`
		New    int             `json:"new" doc:"How many were kept, or would be"`
		Items  []importedView  `json:"items" nullable:"false"`
		Faults []faultView     `json:"faults" nullable:"false" doc:"What cannot be read: nothing is kept as long as there is any"`
		Others int             `json:"others" doc:"Parts that hold no secret"`
	}
}

func (r *Room) importAll(ctx context.Context, c tenantdb.Caller, in *importInput) (*importOutput, error) {
	b := &in.Body
	if b.Format == portable.FormatQR {
		b.Encoding = "base64"
	}
	var files [][]byte
	defer func() {
		for _, f := range files {
			clear(f)
		}
	}()
	for k, part := range append([]importPart{{b.Data, b.Encoding}}, b.More...) {
		data := []byte(part.Data.Expose())
		if part.Encoding == "base64" {
			raw, err := base64.StdEncoding.DecodeString(part.Data.Expose())
			if err != nil {
				return nil, flawed("It cannot be imported.", location(k), "is not base64")
			}
			data = raw
		}
		files = append(files, data)
	}
	o, err := r.Import(ctx, c, Import{Format: b.Format, Data: files[0], More: files[1:], Password: b.Password, Folder: b.Folder, DryRun: b.DryRun})
	if err != nil {
		return nil, err
	}
	out := &importOutput{}
	out.Body.Format, out.Body.DryRun, out.Body.Others = o.Format, b.DryRun, o.Others
	out.Body.Items, out.Body.Faults = make([]importedView, len(o.Items)), viewFaults(o.Faults)
	for k, i := range o.Items {
		v := importedView{Name: i.Name, Kind: i.Kind, Duplicate: i.Duplicate}
		if i.Item != (ID{}) {
			v.Item = &i.Item
		}
		if !i.Duplicate {
			out.Body.New++
		}
		out.Body.Items[k] = v
	}
	return out, nil
}

// location is where the data of a file is, of those that come in one request.
func location(k int) string {
	if k == 0 {
		return "data"
	}
	return fmt.Sprintf("more[%d].data", k-1)
}

func viewFaults(faults []portable.Fault) []faultView {
	out := make([]faultView, len(faults))
	for k, f := range faults {
		out[k] = faultView(f)
	}
	return out
}

type exportInput struct {
	Body struct {
		Items      []ID            `json:"items" nullable:"false" minItems:"1" maxItems:"1000" doc:"By item_id"`
		Format     portable.Format `json:"format,omitempty" enum:"avouch,uri,csv" doc:"avouch by default, which holds everything"`
		Reason     string          `json:"reason" minLength:"1" maxLength:"1000"`
		Clear      bool            `json:"clear,omitempty" doc:"Not encrypted"`
		Recipients []string        `json:"recipients,omitempty" nullable:"true" maxItems:"20" doc:"Public keys of age"`
		Passphrase secret.String   `json:"passphrase,omitempty" doc:"12 characters or more"`
	}
}

type exportOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Format   portable.Format `json:"format"`
		Data     string          `json:"data" doc:"Text, or base64 where it is encrypted"`
		Encoding string          `json:"encoding" enum:"text,base64"`
		Items    []ID            `json:"items" nullable:"false" doc:"What it holds, each once"`
	}
}

func (r *Room) exportAll(ctx context.Context, c tenantdb.Caller, in *exportInput) (*exportOutput, error) {
	b := &in.Body
	if b.Format == "" {
		b.Format = portable.FormatAvouch
	}
	data, items, err := r.Export(ctx, c, Export{b.Items, b.Format, portable.Protection{Clear: b.Clear, Recipients: b.Recipients, Passphrase: b.Passphrase}, b.Reason})
	if err != nil {
		return nil, err
	}
	out := &exportOutput{CacheControl: "no-store"}
	out.Body.Format, out.Body.Data, out.Body.Encoding, out.Body.Items = b.Format, string(data), "text", items
	if !b.Clear {
		out.Body.Data, out.Body.Encoding = base64.StdEncoding.EncodeToString(data), "base64"
	}
	return out, nil
}

type usesInput struct {
	ID     ID    `path:"id" doc:"The item_id"`
	Days   int   `query:"days" minimum:"1" maximum:"3650" default:"7" doc:"How far back"`
	Before int64 `query:"before" minimum:"0" doc:"The seq of the last one of the page before"`
	Limit  int   `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type useView struct {
	Seq  int64             `json:"seq" doc:"The number of its entry in the log"`
	At   time.Time         `json:"at"`
	Item ID                `json:"item_id" format:"uuid"`
	Name string            `json:"item_name" doc:"Empty if it is gone, or where you may not know it"`
	What string            `json:"what" doc:"vault.code_given, vault.secret_used, vault.secret_answered, vault.exported"`
	Kind string            `json:"kind" enum:"person,agent,key,system"`
	By   string            `json:"by" doc:"The id of who used it"`
	Who  string            `json:"by_name" doc:"Of a person with the address; empty where you may not know it"`
	How  string            `json:"how" doc:"How they were authenticated"`
	More map[string]string `json:"more" doc:"What else its entry says"`
}

func viewUse(u Use, k *called) useView {
	more := map[string]string{}
	for _, fields := range [][]audit.Field{u.Public, u.Private} {
		for _, f := range fields {
			more[f.Name] = f.Value
		}
	}
	return useView{u.Seq, u.At.UTC(), u.Item, k.items[u.Item], u.Type, u.By.Kind, u.By.ID, k.of(u.By), u.How, more}
}

func (r *Room) viewUses(ctx context.Context, c tenantdb.Caller, uses []Use) ([]useView, error) {
	var items []ID
	var who []Actor
	for _, u := range uses {
		items, who = append(items, u.Item), append(who, u.By)
	}
	names, err := r.called(ctx, c, items, who)
	if err != nil {
		return nil, err
	}
	out := make([]useView, len(uses))
	for k, u := range uses {
		out[k] = viewUse(u, &names)
	}
	return out, nil
}

type usesOutput struct {
	Body struct {
		Uses []useView `json:"uses"`
		Next *int64    `json:"next_before" nullable:"true" doc:"For the next page; null if this is the last"`
	}
}

func (r *Room) listUses(ctx context.Context, c tenantdb.Caller, in *usesInput) (*usesOutput, error) {
	uses, err := r.Uses(ctx, c, in.ID, r.now().AddDate(0, 0, -in.Days), in.Before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &usesOutput{}
	if len(uses) == in.Limit {
		out.Body.Next = &uses[len(uses)-1].Seq
	}
	out.Body.Uses, err = r.viewUses(ctx, c, uses)
	return out, err
}

type reportInput struct {
	Person tenantdb.PersonID `path:"person" doc:"The member_id"`
}

type knownView struct {
	Item ID     `json:"item_id" format:"uuid"`
	Name string `json:"name" doc:"Empty if it is gone, or is not what the log says"`
	Why  string `json:"why" enum:"exported,made,seed" doc:"They took it out, put it in, or could have taken it out: of several the first"`
	Gone bool   `json:"gone" doc:"It was deleted; what took its secret may still do"`
}

type reportOutput struct {
	Body struct {
		Rotate  []knownView `json:"rotate" doc:"Secrets to be replaced"`
		Fetched []useView   `json:"fetched" doc:"Their uses, the newest first"`
		More    bool        `json:"more" doc:"There are older ones: GET /api/v1/audit/entries has them"`
	}
}

func (r *Room) getReport(ctx context.Context, c tenantdb.Caller, in *reportInput) (*reportOutput, error) {
	rep, err := r.Left(ctx, c, in.Person)
	if err != nil {
		return nil, err
	}
	out := &reportOutput{}
	out.Body.Rotate = make([]knownView, len(rep.Rotate))
	for k, n := range rep.Rotate {
		out.Body.Rotate[k] = knownView(n)
	}
	out.Body.More = rep.More
	out.Body.Fetched, err = r.viewUses(ctx, c, rep.Fetched)
	return out, err
}
