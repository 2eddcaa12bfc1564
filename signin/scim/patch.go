package scim

import (
	"maps"
	"slices"
	"strings"
)

// Operation is one of a PATCH.
type Operation struct {
	Op    string // "add", "replace", "remove"
	Path  string
	Value any
}

const maxOperations = 1000

// Apply applies operations to a resource whose attributes have lower-case names. Attributes of schemas that are not kept here are
// passed over.
func Apply(resource map[string]any, ops []Operation) error {
	if len(ops) == 0 || len(ops) > maxOperations {
		return &Error{400, "invalidSyntax", "A PATCH has 1 to 1000 operations."}
	}
	for _, op := range ops {
		if err := apply(resource, op); err != nil {
			return err
		}
	}
	return nil
}

func apply(resource map[string]any, op Operation) error {
	kind := strings.ToLower(op.Op)
	if kind != "add" && kind != "replace" && kind != "remove" {
		return &Error{400, "invalidSyntax", "An operation is add, replace or remove."}
	}
	if op.Path == "" {
		return applyAll(resource, kind, op.Value)
	}
	p, err := ParsePath(op.Path)
	if err != nil {
		return err
	}
	if foreign(p.Attribute) {
		return nil
	}
	if kind == "remove" {
		remove(resource, p, op.Value)
		return nil
	}
	set(resource, kind == "add", p, Lower(op.Value))
	return nil
}

// applyAll is an operation without a path: each attribute of its value is one of its own. Its names may be paths, as Entra
// writes them.
func applyAll(resource map[string]any, kind string, value any) error {
	all, ok := value.(map[string]any)
	if kind == "remove" || !ok {
		return &Error{400, "noTarget", "An operation without a path has an object as its value, and is no remove."}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := apply(resource, Operation{kind, name, all[name]}); err != nil {
			return err
		}
	}
	return nil
}

// Lower makes the names of attributes lower case, at every depth. Of two names that are then alike the last in order of bytes
// counts.
func Lower(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out[strings.ToLower(name)] = Lower(v[name])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = Lower(v[i])
		}
		return out
	}
	return v
}

func set(resource map[string]any, add bool, p Path, value any) {
	old := resource[p.Attribute]
	list, many := old.([]any)
	switch {
	case p.Filter != nil:
		resource[p.Attribute] = setWhere(list, p, value)
	case p.Sub != "" && many:
		for _, v := range list {
			if m, ok := v.(map[string]any); ok {
				m[p.Sub] = value
			}
		}
	case p.Sub != "":
		m, ok := old.(map[string]any)
		if !ok {
			m = map[string]any{}
		}
		m[p.Sub] = value
		resource[p.Attribute] = m
	case add && many:
		resource[p.Attribute] = join(list, value)
	default:
		merged, isMap := old.(map[string]any)
		if more, ok := value.(map[string]any); ok && isMap { // what is not said of a complex attribute stays
			maps.Copy(merged, more)
			return
		}
		resource[p.Attribute] = value
	}
}

func setWhere(list []any, p Path, value any) []any {
	found := false
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok || !matches(m, p.Filter) {
			continue
		}
		found = true
		if p.Sub != "" {
			m[p.Sub] = value
		} else if whole, ok := value.(map[string]any); ok {
			list[i] = whole
		}
	}
	if found {
		return list
	}
	// What the filter wants is made: directories replace what they think is there.
	made := map[string]any{}
	for _, c := range p.Filter {
		made[c.Attribute] = c.Value
	}
	if p.Sub != "" {
		made[p.Sub] = value
	} else if whole, ok := value.(map[string]any); ok {
		maps.Copy(made, whole)
	}
	return append(list, made)
}

func matches(m map[string]any, f Filter) bool {
	for _, c := range f {
		if !c.equals(m[c.Attribute]) {
			return false
		}
	}
	return true
}

// join adds values to a list, of which each is there once.
func join(list []any, value any) []any {
	more, many := value.([]any)
	if !many {
		more = []any{value}
	}
	there := namesOf(more)
	for n := range there {
		there[n] = false
	}
	for _, v := range list {
		if n, ok := nameOf(v); ok {
			if _, comes := there[n]; comes {
				there[n] = true
			}
		}
	}
	for _, v := range more {
		n, ok := nameOf(v)
		if ok && there[n] {
			continue
		}
		if list = append(list, v); ok {
			there[n] = true
		}
	}
	return list
}

// name is by what values are the same: a text, or the value and type of an object, as far as there are such. It is made without
// memory of its own: each operation looks at all members of a group, while the organisation waits.
type name struct {
	object, typed bool
	value, kind   string
}

func nameOf(v any) (n name, ok bool) {
	switch v := v.(type) {
	case string:
		return name{value: v}, true
	case map[string]any:
		if n.value, ok = v["value"].(string); !ok {
			return n, false
		}
		n.object, n.typed = true, v["type"] != nil
		if n.typed {
			n.kind, ok = v["type"].(string)
		}
		return n, ok
	}
	return n, false
}

// namesOf are the names of values: many are compared with many.
func namesOf(list []any) map[name]bool {
	names := make(map[name]bool, len(list))
	for _, v := range list {
		if n, ok := nameOf(v); ok {
			names[n] = true
		}
	}
	return names
}

func remove(resource map[string]any, p Path, value any) {
	list, many := resource[p.Attribute].([]any)
	gone, named := Lower(value).([]any) // which of them, as Entra says it
	switch {
	case many && p.Filter == nil && p.Sub == "" && named && len(gone) > 0:
		names := namesOf(gone)
		resource[p.Attribute] = slices.DeleteFunc(list, func(v any) bool {
			n, ok := nameOf(v)
			return ok && names[n]
		})
	case many && p.Filter != nil && p.Sub == "":
		resource[p.Attribute] = slices.DeleteFunc(list, func(v any) bool {
			m, ok := v.(map[string]any)
			return ok && matches(m, p.Filter)
		})
	case many && p.Sub != "":
		for _, v := range list {
			if m, ok := v.(map[string]any); ok && matches(m, p.Filter) {
				delete(m, p.Sub)
			}
		}
	case p.Sub != "":
		if m, ok := resource[p.Attribute].(map[string]any); ok {
			delete(m, p.Sub)
		}
	case p.Filter == nil:
		delete(resource, p.Attribute)
	}
}
