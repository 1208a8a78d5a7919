package sasl

import (
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"math"
	"slices"
	"strconv"

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
		shape := shapeOf(&c)
		if _, known := s[mechanism][shape]; known || len(s[mechanism]) < maxShapes {
			s[mechanism][shape]++
		}
	}
}

func shapeOf(c *catalog.Scram) Shape {
	return Shape{c.Iterations, len(c.Salt), !slices.ContainsFunc(c.Salt, func(b byte) bool { return (b < '0' || b > '9') && (b < 'a' || b > 'z') })}
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

// Eighths is how many users of a group of names sign on by their name without the tenant too, of eight. All and none are
// told from nearly so.
const Eighths = 8

// Spellings counts groups of names (those NAME@TENANT of one tenant) by how many eighths of them have two spellings.
type Spellings [Eighths + 1]int

// Place is where a name would belong that nobody has: what it is answered by must be what users there are answered by,
// also where two names, two listeners or two spellings of one name are compared.
type Place struct {
	// Tenant and Name are the same for all spellings that lead to one user. Tenant is "" for a name without one.
	Tenant, Name string
	Of           Shapes // of the tenant's users; none: of a tenant that does not exist, or has no user
	All          Shapes // of all names that are good without a tenant
	// Bare finds the one that Name alone leads to, where nothing but the name tells the tenant; nil: it cannot be the
	// same user.
	Bare Directory
	// Spelled is how many eighths of the tenant's users are the one that their name alone leads to; -1: nothing is
	// known of it, and it is as of one of All's.
	Spelled      int
	AllSpellings Spellings
}

// spelled draws how a tenant looks that has no users to look at: always the same, and as often as it is counted.
func (s *Server) spelled(of Spellings, by string) int {
	best, most := Eighths, math.Inf(-1)
	for n, count := range of {
		sum := keyed(sha512.New, s.secret, "spelled\x00"+strconv.Itoa(n)+"\x00"+by)
		u := (float64(binary.BigEndian.Uint64(sum)>>11) + 0.5) / (1 << 53)
		if score := float64(count) / -math.Log(u); count > 0 && score > most {
			best, most = n, score
		}
	}
	return best
}

// shown is the credential that a name is answered with: its user's, or nobody's.
func (s *Server) shown(d Directory, mechanism, name string) *catalog.Scram {
	nobody := s.nobody(d, mechanism, name) // made for each name, so that one that somebody has takes as long
	if u := d.User(name); u != nil {
		if c, ok := u.Credentials[mechanism]; ok {
			return &c
		}
	}
	return nobody
}

// nobody is the credential of a user that does not exist: always the same for
// the same name, and known to no password.
//
// A user that signs on by two spellings has one salt for both, so nobody's names are alike as often: NAME@TENANT has then
// what NAME alone shows, whoever that is. Whether it has follows from name and tenant alone, for tenants that do not
// exist too. So that two spellings are answered alike, or not, says nothing of the name, and little of many.
func (s *Server) nobody(d Directory, mechanism, name string) *catalog.Scram {
	h := scramHash(mechanism)
	at := d.Like(name)
	who := strconv.Itoa(len(at.Tenant)) + "\x00" + at.Tenant + "\x00" + at.Name
	if at.Tenant == "" && at.Name == name {
		who = "\x00" + name
	}
	part := func(what string) []byte { return keyed(sha512.New, s.secret, what+"\x00"+mechanism+"\x00"+who) }
	// Both are drawn in any case: what takes longer would tell of the tenant.
	drawn, spelled := s.choose(at.All[mechanism], at.Tenant), s.spelled(at.AllSpellings, at.Tenant)
	of := at.Of[mechanism]
	if len(of) == 0 && at.Tenant != "" {
		of = map[Shape]int{drawn: 1} // as one whose credentials are all alike
	} else if len(of) == 0 {
		of = at.All[mechanism]
	}
	if at.Spelled >= 0 {
		spelled = at.Spelled
	}
	// By the name alone, so that the shapes of both spellings agree where those of the tenants do.
	shape := s.choose(of, at.Name)
	c := &catalog.Scram{Iterations: shape.Iterations, StoredKey: part("stored")[:h().Size()], ServerKey: part("server")[:h().Size()]}
	if at.Bare != nil {
		other := s.shown(at.Bare, mechanism, at.Name)
		if alike := int(keyed(sha512.New, s.secret, "alike\x00"+who)[0]) % Eighths; alike < spelled && shapeOf(other) == shape {
			c.Salt = slices.Clone(other.Salt)
			return c
		}
	}
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
	c.Salt = salt
	return c
}
