package wire

// message describes one API key.
type message struct {
	name             string
	min, max         int16 // versions, unstable ones included
	stable           int16 // newest stable version
	flexible         int16 // first version with a flexible request header
	flexibleResponse int16 // likewise for the response header
	request          []uint16
	response         []uint16 // index into shapes, by version - min
}

// shape is a structure or what an array holds.
type shape struct {
	min  uint16 // fewest bytes on the wire
	size uint16 // of the decoded Go value, bytes; what it points to not counted
	ops  string
}

// The program of a shape, one letter per field. Small letters are the classic
// encodings, capitals the compact ones.
const (
	opFixed                = 'f' // 1 byte: how many bytes
	opString               = 's'
	opNullableString       = 'n'
	opCompactString        = 'S'
	opCompactNullable      = 'N'
	opBytes                = 'b' // also records
	opNullableBytes        = 'd'
	opCompactBytes         = 'B'
	opCompactNullableBytes = 'D'
	opArray                = 'a' // 2 bytes: shape of the elements
	opNullableArray        = 'p'
	opCompactArray         = 'A'
	opCompactNullableArray = 'P'
	opNullableStruct       = 'q' // 2 bytes: shape
	opTags                 = 't' // 1 byte: known tags, then 1 byte tag and 2 bytes shape for each
)

// Among the known tags of a version are those that only later versions define.
// Package kmsg writes and reads tags whatever the version, so their values have
// to be checked as well; a client that sends one early is not refused for it.
// In messages between controllers, where kmsg reads such a value by rules of its
// own, refusedTag stands in place of the shape.
const refusedTag = 0xffff

// lookup returns nil for a key that is not known.
func lookup(key int16) *message {
	if key < 0 || int(key) >= len(messages) || messages[key].request == nil {
		return nil
	}
	return &messages[key]
}

// API describes one API key as the newest Kafka release that we know has it.
type API struct {
	Name string
	Min  int16 // oldest version
	Max  int16 // newest version, unstable ones included
	// Stable is the newest version that brokers offer by default.
	Stable int16
}

// LookupAPI returns what is known of an API key.
func LookupAPI(key int16) (API, bool) {
	m := lookup(key)
	if m == nil {
		return API{}, false
	}
	return API{Name: m.name, Min: m.min, Max: m.max, Stable: m.stable}, true
}
