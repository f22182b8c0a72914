package shape

// ShrinkTrees leaves room for n containers in each tree until the function it returns is called.
func ShrinkTrees(n uint32) func() {
	was := slotsPerTree
	slotsPerTree = n
	return func() { slotsPerTree = was }
}
