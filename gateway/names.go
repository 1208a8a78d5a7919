package gateway

// CheckTopicName tells why a name is no legal topic name, as Kafka tells it; nil if it is one.
func CheckTopicName(name string) error { return checkTopicName(name) }

// ReservedTopic tells whether a name is kept for internal topics, or cannot be told from one that is.
func ReservedTopic(name string) bool { return reservedTopic(name) }

// InternalTopic tells whether a name is one that Kafka keeps for itself: such
// topics are made by the service, and count towards no limit.
func InternalTopic(name string) bool { return internalTopic(name) }
