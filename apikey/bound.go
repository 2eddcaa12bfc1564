package apikey

import "github.com/avouch-dev/avouch/internal/web"

// mostTexts is how long the texts of a key that its entries keep private may be together. Every entry about the key holds them
// all, and has audit.MaxPrivate bytes: what the key takes over from its maker, addresses and an owner, finds room there too.
const mostTexts = 12 << 10

// checkTexts refuses texts that are too long together, at the longest of them.
func (n *NewKey) checkTexts(f *faults) {
	Key{
		Kind: n.Kind, Name: n.Name, Scopes: n.Scopes, Resources: n.Resources, Metadata: n.Metadata, GivenTo: n.GivenTo, RateLimits: n.RateLimits,
		AllowedCIDRs: n.AllowedCIDRs, NotBefore: n.NotBefore,
	}.checkTexts(f, mostTexts)
}

// changedTexts refuses a change that makes them so, and no other change of a key that an earlier version let have more.
func changedTexts(before, after Key) error {
	var f faults
	had, _ := before.texts()
	after.checkTexts(&f, max(mostTexts, had))
	return f.problem()
}

func (k Key) checkTexts(f *faults, most int) {
	if sum, longest := k.texts(); sum > most {
		f.add(longest, "is the longest of the key's texts (name, owner, scopes, limits, addresses, resources, metadata), which are %d bytes together: at most %d", sum, mostTexts)
	}
}

// texts is how long they are together, and which is the longest.
func (k Key) texts() (sum int, longest string) {
	most := 0
	for _, p := range k.event("", false).Private {
		if sum += len(p.Value); len(p.Value) > most {
			most, longest = len(p.Value), p.Name
		}
	}
	return sum, longest
}

// checkNamed refuses an owner that no path can name: its limits could not be set.
func checkNamed(f *faults, owner string) {
	if owner != "" && !web.PathTakes(owner) {
		f.add("owner", "cannot stand in an address: it is a slash, holds a key, or has . or .. between slashes")
	}
}
