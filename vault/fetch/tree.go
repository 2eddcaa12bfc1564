package fetch

// tree is texts to be found: the automaton of Aho and Corasick.
type tree struct {
	nodes []node
	root  [256]int32
}

// node is a place in the tree. Almost all have one child, so children are a list.
type node struct {
	child, sibling int32
	fail           int32 // the longest other beginning that ends here
	found          int32 // this node or the nearest along fail where a text ends; 0 if there is none
	depth          int32
	letter         byte
	ends           bool
	before, after  bool // the letter beside the text holds bits of the secret too
}

func (t *tree) add(text string, before, after bool) {
	if len(t.nodes) == 0 {
		t.nodes = make([]node, 1, 16*len(text)) // enough for all: what is outgrown would not be cleared
	}
	at := int32(0)
	for i := range len(text) {
		next := t.child(at, text[i])
		if next == 0 {
			next = int32(len(t.nodes))
			t.nodes = append(t.nodes, node{letter: text[i], depth: int32(i + 1), sibling: t.nodes[at].child})
			t.nodes[at].child = next
			if at == 0 {
				t.root[text[i]] = next
			}
		}
		at = next
	}
	n := &t.nodes[at]
	n.ends, n.before, n.after, n.found = true, n.before || before, n.after || after, at
}

func (t *tree) child(at int32, letter byte) int32 {
	if at == 0 {
		return t.root[letter]
	}
	n := t.nodes[at].child
	for n != 0 && t.nodes[n].letter != letter {
		n = t.nodes[n].sibling
	}
	return n
}

// link finds for each node where to go on when no child fits.
func (t *tree) link() {
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for n := t.nodes[at].child; n != 0; n = t.nodes[n].sibling {
			if at != 0 {
				t.nodes[n].fail = t.step(t.nodes[at].fail, t.nodes[n].letter)
			}
			if !t.nodes[n].ends {
				t.nodes[n].found = t.nodes[t.nodes[n].fail].found
			}
			queue = append(queue, n)
		}
	}
}

func (t *tree) step(at int32, letter byte) int32 {
	for {
		if n := t.child(at, letter); n != 0 || at == 0 {
			return n
		}
		at = t.nodes[at].fail
	}
}
