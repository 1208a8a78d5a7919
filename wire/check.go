package wire

import "fmt"

// Bounds of what is taken, whatever the bytes. The first two are those of Apache
// Kafka 4.4.
const (
	maxElements = 1_000_000
	maxTags     = 10_000
	maxString   = 1<<15 - 1
)

// Costs of decoding in bytes, as package kmsg allocates.
const (
	// costPointer is what a nullable string's pointer points to.
	costPointer = 16
	// costTags is a map of unknown tags; costTag an entry of it.
	costTags = 400
	costTag  = 96
)

// Budget bounds what decoding a body may allocate: Factor times the bytes
// of the body plus Base, and Most in all; 0 is no such bound.
type Budget struct {
	Factor int
	Base   int
	Most   int
}

// DefaultBudget lets every message pass that real clients send, thousands of
// topics with names of a few letters too, and refuses those whose bytes are
// chosen to blow up.
var DefaultBudget = Budget{Factor: 16, Base: 64 << 10, Most: 256 << 20}

// Check walks the body of a request by its definition and tells whether it is
// safe to decode: every length, count and tag section lies within the bytes,
// nothing required is null, and a decoder will allocate no more than the budget
// allows. Its errors are of kind ErrMalformed, ErrTooCostly, ErrUnknownKey and
// ErrUnknownVersion. Bytes behind the body are tolerated, as a broker does.
//
// It takes time linear in the bytes and allocates nothing but errors. The depth
// of its recursion is that of the definition.
func Check(key, version int16, body []byte, budget Budget) error {
	m := lookup(key)
	if m == nil {
		return fmt.Errorf("%w %d", ErrUnknownKey, key)
	}
	if version < m.min || version > m.max {
		return fmt.Errorf("%w: %s version %d", ErrUnknownVersion, m.name, version)
	}
	return check(m, version, m.request[version-m.min], body, budget, "request")
}

// CheckResponse is Check for the response to a request of that key and version.
func CheckResponse(key, version int16, body []byte, budget Budget) error {
	m := lookup(key)
	if m == nil {
		return fmt.Errorf("%w %d", ErrUnknownKey, key)
	}
	if version < m.min || version > m.max {
		return fmt.Errorf("%w: %s version %d", ErrUnknownVersion, m.name, version)
	}
	return check(m, version, m.response[version-m.min], body, budget, "response")
}

func check(m *message, version int16, root uint16, body []byte, budget Budget, what string) error {
	left := int64(budget.Factor)*int64(len(body)) + int64(budget.Base)
	if budget.Most > 0 {
		left = min(left, int64(budget.Most))
	}
	w := walker{r: Reader{b: body}, left: left}
	w.spend(int64(shapes[root].size))
	w.walk(root)
	switch {
	case w.costly:
		return fmt.Errorf("%w: %s %s v%d of %d bytes", ErrTooCostly, m.name, what, version, len(body))
	case w.r.bad:
		return fmt.Errorf("%w: %s %s v%d of %d bytes", ErrMalformed, m.name, what, version, len(body))
	}
	return nil
}

type walker struct {
	r      Reader
	left   int64 // of the budget
	costly bool
}

func (w *walker) spend(n int64) {
	w.left -= n
	if w.left < 0 {
		w.costly = true
		w.r.fail()
	}
}

func u16(ops string) uint16 { return uint16(ops[0])<<8 | uint16(ops[1]) }

// walk checks one value of the shape.
func (w *walker) walk(id uint16) {
	for ops := shapes[id].ops; len(ops) > 0 && !w.r.bad; {
		op := ops[0]
		ops = ops[1:]
		switch op {
		case opFixed:
			w.r.Raw(int(ops[0]))
			ops = ops[1:]
		case opString, opCompactString:
			w.text(w.r.String(op == opCompactString))
		case opNullableString, opCompactNullable:
			if s := w.r.NullableString(op == opCompactNullable); s != nil {
				w.spend(costPointer)
				w.text(s)
			}
		case opBytes, opCompactBytes:
			if w.r.NullableBytes(op == opCompactBytes) == nil {
				w.r.fail()
			}
		case opNullableBytes, opCompactNullableBytes:
			w.r.NullableBytes(op == opCompactNullableBytes)
		case opArray, opNullableArray:
			w.array(u16(ops), false, op == opNullableArray)
			ops = ops[2:]
		case opCompactArray, opCompactNullableArray:
			w.array(u16(ops), true, op == opCompactNullableArray)
			ops = ops[2:]
		case opNullableStruct:
			switch inner := u16(ops); w.r.Int8() {
			case -1:
			case 1:
				w.spend(int64(shapes[inner].size))
				w.walk(inner)
			default:
				w.r.fail()
			}
			ops = ops[2:]
		case opTags:
			n := int(ops[0])
			w.tags(ops[1 : 1+3*n])
			ops = ops[1+3*n:]
		}
	}
}

// text spends what the copy of a string takes.
func (w *walker) text(s []byte) {
	if len(s) > 0 {
		w.spend(rounded(int64(len(s))))
	}
}

// rounded is n bytes as the allocator rounds them, at most.
func rounded(n int64) int64 {
	if n < 16 {
		return n + 8
	}
	return n + n/8 + 16
}

func (w *walker) array(elem uint16, compact, nullable bool) {
	s := &shapes[elem]
	n := w.r.ArrayLen(compact, int(s.min))
	if n < 0 && !nullable || n > maxElements {
		w.r.fail()
		return
	}
	if n <= 0 || w.r.bad {
		return
	}
	w.spend(rounded(int64(n) * int64(s.size)))
	// A run of values of one fixed size needs no walk.
	if len(s.ops) == 2 && s.ops[0] == opFixed {
		w.r.Raw(n * int(s.ops[1]))
		return
	}
	for range n {
		if w.r.bad {
			return
		}
		w.walk(elem)
	}
}

// tags checks a tagged field section; known holds 3 bytes for each tag.
func (w *walker) tags(known string) {
	n := w.r.tagCount()
	last := int64(-1)
	unknown := 0
	for range n {
		tag, value := w.r.tag(&last)
		if w.r.bad {
			return
		}
		shape, ok := knownTag(known, tag)
		if !ok {
			if unknown == 0 {
				w.spend(costTags)
			}
			unknown++
			w.spend(costTag)
			continue
		}
		if shape == refusedTag {
			w.r.fail()
			return
		}
		outer := w.r
		w.r = Reader{b: value}
		w.spend(int64(shapes[shape].size))
		w.walk(shape)
		if w.r.bad || len(w.r.b) > 0 {
			w.r.fail()
			return
		}
		w.r = outer
	}
}

func knownTag(known string, tag uint32) (uint16, bool) {
	for ; len(known) > 0; known = known[3:] {
		if uint32(known[0]) == tag {
			return u16(known[1:]), true
		}
	}
	return 0, false
}
