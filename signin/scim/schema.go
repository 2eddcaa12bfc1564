package scim

import (
	"context"
	"net/http"
	"strings"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The names of the standard's schemas and messages.
const (
	schemaUser     = "urn:ietf:params:scim:schemas:core:2.0:User"
	schemaGroup    = "urn:ietf:params:scim:schemas:core:2.0:Group"
	schemaList     = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	schemaError    = "urn:ietf:params:scim:api:messages:2.0:Error"
	schemaProvider = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	schemaType     = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	schemaSchema   = "urn:ietf:params:scim:schemas:core:2.0:Schema"
	media          = "application/scim+json"
)

type object = map[string]any

// provider says what of SCIM is spoken here.
func (r *Room) provider(c call) error {
	can := func(yes bool) object { return object{"supported": yes} }
	return c.answer(http.StatusOK, object{
		"schemas": []string{schemaProvider}, "patch": can(true), "bulk": object{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter": object{"supported": true, "maxResults": 200}, "changePassword": can(false), "sort": can(false), "etag": can(true),
		"authenticationSchemes": []object{{"type": "oauthbearertoken", "name": "API key", "description": "An API key with scim:write, as bearer token", "primary": true}},
		"meta":                  meta{Type: "ServiceProviderConfig", Location: strings.TrimSuffix(r.cfg.Public.String(), "/") + "/scim/v2/ServiceProviderConfig"},
	}, "", "")
}

// described answers with all types or schemas, or with the one of the path.
func (r *Room) described(kind string) func(call) error {
	return func(c call) error {
		all := r.types()
		if kind == "Schemas" {
			all = r.schemas()
		}
		one := c.PathValue("id")
		if one == "" {
			found := make([]any, len(all))
			for i := range all {
				found[i] = all[i]
			}
			return c.answer(http.StatusOK, list(found, len(all), 1), "", "")
		}
		for _, d := range all {
			if id, _ := d["id"].(string); strings.EqualFold(id, one) {
				return c.answer(http.StatusOK, d, "", "")
			}
		}
		return &Error{http.StatusNotFound, "", "There is none of this name."}
	}
}

func (r *Room) types() []object {
	one := func(name, schema string) object {
		return object{
			"schemas": []string{schemaType}, "id": name, "name": name, "endpoint": "/" + name + "s", "schema": schema, "meta": meta{Type: "ResourceType", Location: r.location("ResourceTypes", name)},
		}
	}
	return []object{one("User", schemaUser), one("Group", schemaGroup)}
}

// attr describes an attribute; parts are those of a complex one.
func attr(name, kind string, many, needed, exact bool, mutability, uniqueness string, parts ...object) object {
	a := object{
		"name": name, "type": kind, "multiValued": many, "required": needed, "caseExact": exact, "mutability": mutability, "returned": "default", "uniqueness": uniqueness,
	}
	if parts != nil {
		a["subAttributes"] = parts
	}
	return a
}

func (r *Room) schemas() []object {
	word := func(name string) object { return attr(name, "string", false, false, false, "readWrite", "none") }
	one := func(id, name string, attributes ...object) object {
		return object{
			"schemas": []string{schemaSchema}, "id": id, "name": name, "attributes": attributes, "meta": meta{Type: "Schema", Location: r.location("Schemas", id)},
		}
	}
	return []object{
		one(schemaUser, "User",
			attr("userName", "string", false, true, false, "readWrite", "server"),
			attr("externalId", "string", false, false, true, "readWrite", "server"),
			attr("name", "complex", false, false, false, "readWrite", "none", word("formatted"), word("givenName"), word("familyName")),
			word("displayName"), attr("active", "boolean", false, false, false, "readWrite", "none"),
			attr("emails", "complex", true, false, false, "readWrite", "none", word("value"), word("type"), attr("primary", "boolean", false, false, false, "readWrite", "none")),
			attr("groups", "complex", true, false, false, "readOnly", "none", attr("value", "string", false, false, true, "readOnly", "none"), attr("display", "string", false, false, false, "readOnly", "none")),
		),
		one(schemaGroup, "Group",
			attr("displayName", "string", false, true, false, "readWrite", "server"),
			attr("externalId", "string", false, false, true, "readWrite", "server"),
			attr("members", "complex", true, false, false, "readWrite", "none", attr("value", "string", false, false, true, "immutable", "none"), attr("type", "string", false, false, false, "immutable", "none")),
		),
	}
}

type adoptInput struct {
	Person PersonID `path:"person"`
	Body   struct {
		Managed bool `json:"managed" doc:"Whether the directory decides"`
	}
}

func (r *Room) adopt(ctx context.Context, c tenantdb.Caller, in *adoptInput) (*web.None, error) {
	return nil, r.Adopt(ctx, c, in.Person, in.Body.Managed)
}
