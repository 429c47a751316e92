"""Members in stacks: many small networks trained as one."""
