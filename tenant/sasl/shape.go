package sasl

import (
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"math"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// Shape is what SCRAM's first answer shows of a credential before anything is proved: so a name that nobody has is
// answered in the shape of one that somebody might have.
type Shape struct {
	Iterations int
	Salt       int // bytes
	// Text: the salt is of digits and lower-case letters, as Apache Kafka's tools make it; else of any bytes.
	Text bool
}

// Shapes counts credentials by mechanism and shape.
type Shapes map[string]map[Shape]int

// maxShapes bounds the shapes that are told apart for one mechanism: users choose them.
const maxShapes = 64

// Add counts a user's credentials.
func (s Shapes) Add(u *catalog.User) {
	for mechanism, c := range u.Credentials {
		if s[mechanism] == nil {
			s[mechanism] = map[Shape]int{}
		}
		shape := Shape{c.Iterations, len(c.Salt), !slices.ContainsFunc(c.Salt, func(b byte) bool { return (b < '0' || b > '9') && (b < 'a' || b > 'z') })}
		if _, known := s[mechanism][shape]; known || len(s[mechanism]) < maxShapes {
			s[mechanism][shape]++
		}
	}
}

// choose picks a shape for a text: always the same one, each as often as it is counted, and another one only where what
// was counted has changed much (rendezvous hashing with weights).
func (s *Server) choose(of map[Shape]int, by string) Shape {
	best, most := Shape{Iterations: DefaultIterations, Salt: saltSize}, math.Inf(-1)
	for shape, n := range of {
		at := binary.BigEndian.AppendUint32([]byte("shape\x00"), uint32(shape.Iterations))
		at = binary.BigEndian.AppendUint32(at, uint32(shape.Salt))
		if shape.Text {
			at = append(at, 1)
		}
		sum := keyed(sha512.New, s.secret, string(at)+"\x00"+by)
		u := (float64(binary.BigEndian.Uint64(sum)>>11) + 0.5) / (1 << 53) // between 0 and 1
		score := float64(n) / -math.Log(u)
		if score > most || score == most && compareShapes(shape, best) < 0 {
			best, most = shape, score
		}
	}
	return best
}

func compareShapes(a, b Shape) int {
	return cmp.Or(cmp.Compare(a.Iterations, b.Iterations), cmp.Compare(a.Salt, b.Salt))
}

// nobody is the credential of a user that does not exist: always the same for
// the same name, and known to no password.
func (s *Server) nobody(d Directory, mechanism, name string) *catalog.Scram {
	h := scramHash(mechanism)
	part := func(what string) []byte { return keyed(sha512.New, s.secret, what+"\x00"+mechanism+"\x00"+name) }
	like, by := d.Like(name)
	of := like[mechanism]
	if by != "" {
		// A tenant that does not exist looks like one whose credentials are all alike.
		of = map[Shape]int{s.choose(of, by): 1}
	}
	shape := s.choose(of, name)
	salt := part("salt")
	for i := byte(0); len(salt) < shape.Salt; i++ {
		salt = append(salt, part("salt"+string(rune('a'+i%26))+string(rune('a'+i/26)))...)
	}
	salt = salt[:shape.Salt]
	if shape.Text {
		const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
		for i, b := range salt {
			salt[i] = alphabet[int(b)%len(alphabet)]
		}
	}
	return &catalog.Scram{Salt: salt, Iterations: shape.Iterations, StoredKey: part("stored")[:h().Size()], ServerKey: part("server")[:h().Size()]}
}
