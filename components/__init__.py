"""What flows between runners and learners: episode batches, transitions, action selectors, schedules, transforms.

Networks live in `modules`, the maths of returns and masks in `utils/rl_utils.py`.
"""
